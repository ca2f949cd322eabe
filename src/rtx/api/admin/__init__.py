"""What operators do: transfers with the outside, assets, markets, fees and reconciliation."""
