//go:build tools

// Package programs names what a node of the cluster, kubectl and helm are built from, so that go.mod and go.sum have all of it.
package programs

import (
	_ "github.com/rancher/local-path-provisioner"
	_ "go.etcd.io/etcd/server/v3"
	_ "helm.sh/helm/v3/cmd/helm"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
