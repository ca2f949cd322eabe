"""Accounts: balances, own trades and what trading costs."""
