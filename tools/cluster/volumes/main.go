// Makes a folder of the node into the volume that a claim asks for, and removes it with the claim.
//
// Kubernetes' own provisioner of host paths makes folders that only root can write; `local` volumes are given the
// fsGroup of the pod, as the volumes of a cloud are.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	provisioner   = "rtx.test/folder"
	provisionedBy = "pv.kubernetes.io/provisioned-by"
	resync        = 30 * time.Second
)

type folders struct {
	client    kubernetes.Interface
	directory string
	node      string
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	directory := flag.String("directory", "/var/lib/volumes", "where the volumes are")
	node := flag.String("node", "", "the node that has the folder")
	flag.Parse()
	configuration, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatal(err)
	}
	made := &folders{client: kubernetes.NewForConfigOrDie(configuration), directory: *directory, node: *node}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	watching := informers.NewSharedInformerFactory(made.client, resync)
	react(watching.Core().V1().PersistentVolumeClaims().Informer(), func(object any) error {
		return made.provide(ctx, object.(*core.PersistentVolumeClaim))
	})
	react(watching.Core().V1().PersistentVolumes().Informer(), func(object any) error {
		return made.remove(ctx, object.(*core.PersistentVolume))
	})
	watching.Start(ctx.Done())
	<-ctx.Done()
	watching.Shutdown()
}

func react(informer cache.SharedIndexInformer, reaction func(any) error) {
	// An error is seen in the log, and tried again when the informer tells everything anew.
	answer := func(object any) {
		if err := reaction(object); err != nil {
			log.Print(err)
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    answer,
		UpdateFunc: func(_, object any) { answer(object) },
	})
	if err != nil {
		log.Fatal(err)
	}
}

func (made *folders) provide(ctx context.Context, claim *core.PersistentVolumeClaim) error {
	if claim.Status.Phase != core.ClaimPending || claim.Spec.VolumeName != "" || claim.Spec.StorageClassName == nil {
		return nil
	}
	class, err := made.client.StorageV1().StorageClasses().Get(ctx, *claim.Spec.StorageClassName, meta.GetOptions{})
	if errors.IsNotFound(err) || err == nil && class.Provisioner != provisioner {
		return nil
	}
	if err != nil {
		return err
	}
	name := "pvc-" + string(claim.UID)
	folder := filepath.Join(made.directory, name)
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(folder, 0o777); err != nil { // whatever the umask is
		return err
	}
	_, err = made.client.CoreV1().PersistentVolumes().Create(ctx, made.volume(name, folder, claim, class), meta.CreateOptions{})
	if errors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (made *folders) volume(
	name, folder string, claim *core.PersistentVolumeClaim, class *storage.StorageClass,
) *core.PersistentVolume {
	policy := core.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	here := core.NodeSelectorRequirement{
		Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{made.node},
	}
	return &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: name, Annotations: map[string]string{provisionedBy: provisioner}},
		Spec: core.PersistentVolumeSpec{
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
			PersistentVolumeReclaimPolicy: policy,
			PersistentVolumeSource:        core.PersistentVolumeSource{Local: &core.LocalVolumeSource{Path: folder}},
			StorageClassName:              class.Name,
			VolumeMode:                    claim.Spec.VolumeMode,
			ClaimRef: &core.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{
				NodeSelectorTerms: []core.NodeSelectorTerm{{MatchExpressions: []core.NodeSelectorRequirement{here}}},
			}},
		},
	}
}

func (made *folders) remove(ctx context.Context, volume *core.PersistentVolume) error {
	ours := volume.Annotations[provisionedBy] == provisioner && volume.Spec.Local != nil
	wanted := volume.Spec.PersistentVolumeReclaimPolicy == core.PersistentVolumeReclaimDelete
	if !ours || !wanted || volume.Status.Phase != core.VolumeReleased {
		return nil
	}
	if err := os.RemoveAll(filepath.Join(made.directory, volume.Name)); err != nil {
		return err
	}
	err := made.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, meta.DeleteOptions{})
	if errors.IsNotFound(err) {
		return nil
	}
	return err
}
