{{/* First part of all names: the release's, told apart where it doesn't say what it is. 48 characters leave room for the longest ending. */}}
{{- define "dask-training-operator.base" -}}
{{- $base := trimSuffix "-operator" .Release.Name -}}
{{- if not (contains "dask-training" $base) -}}
{{- $base = printf "%s-dask-training" $base -}}
{{- end -}}
{{- default $base .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels of the pods of a component, for selectors: never to be changed, a Deployment's selector is immutable. Arguments: [root, component]. */}}
{{- define "dask-training-operator.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: dask-training-operator
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of pods: nothing that changes with each version, for pods restart when their template changes. Arguments: [root, component, more labels]. */}}
{{- define "dask-training-operator.podLabels" -}}
{{ include "dask-training-operator.selector" . }}
app.kubernetes.io/part-of: dask-training
{{- with index . 2 }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of every object. Arguments: [root, component]. */}}
{{- define "dask-training-operator.labels" -}}
{{- $root := index . 0 -}}
{{ include "dask-training-operator.selector" . }}
app.kubernetes.io/part-of: dask-training
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* An image's reference. Arguments: [root, image]. A repository whose first part looks like a host keeps it. */}}
{{- define "dask-training-operator.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $name := $image.repository -}}
{{- $first := splitList "/" $name | first -}}
{{- $hasHost := and (contains "/" $name) (or (contains "." $first) (contains ":" $first) (eq $first "localhost")) -}}
{{- if and $root.Values.image.registry (not $hasHost) -}}
{{- $name = printf "%s/%s" (trimSuffix "/" $root.Values.image.registry) $name -}}
{{- end -}}
{{- if $image.digest -}}
{{ $name }}@{{ $image.digest }}
{{- else -}}
{{ $name }}:{{ $image.tag | default $root.Values.image.tag | default $root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* What Pod Security "restricted" asks of a container, and a root filesystem that nobody writes to. */}}
{{- define "dask-training-operator.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Where the operator's and the store's pods may run, and how important they are. Arguments: [root, the component's values]. */}}
{{- define "dask-training-operator.placement" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $priority := $component.priorityClassName -}}
{{- if and (not $priority) $root.Values.priorityClass.create -}}
{{- $priority = include "dask-training-operator.base" $root -}}
{{- end -}}
{{- with $priority }}
priorityClassName: {{ . }}
{{- end }}
{{- with $component.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $component.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $component.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "dask-training-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (printf "%s-operator" (include "dask-training-operator.base" .)) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The namespaces of scope namespaces, as a JSON list. */}}
{{- define "dask-training-operator.watchNamespaces" -}}
{{- default (list .Release.Namespace) .Values.rbac.watchNamespaces | uniq | toJson -}}
{{- end -}}

{{/* Names of the Secrets of the operator's key and of the store's root account. */}}
{{- define "dask-training-operator.keySecret" -}}
{{- default (printf "%s-key" (include "dask-training-operator.base" .)) .Values.operator.key.existingSecret -}}
{{- end -}}

{{- define "dask-training-operator.storeSecret" -}}
{{- default (printf "%s-store-root" (include "dask-training-operator.base" .)) .Values.store.credentials.existingSecret -}}
{{- end -}}

{{- define "dask-training-operator.storeHost" -}}
{{- printf "%s-store.%s.svc" (include "dask-training-operator.base" .) .Release.Namespace -}}
{{- end -}}

{{/* A data key of a Secret of ours, base64: what the cluster has, so that upgrades keep it, else random. Arguments: [root, name of the Secret, key, length]. */}}
{{- define "dask-training-operator.keptSecret" -}}
{{- $root := index . 0 -}}
{{- $kept := (lookup "v1" "Secret" $root.Release.Namespace (index . 1)) | default dict -}}
{{- get ($kept.data | default dict) (index . 2) | default (randAlphaNum (index . 3) | b64enc) -}}
{{- end -}}

{{/* What the operator may do with jobs and their pods. The same as dask_training/kube/rbac.py says; a test compares them. */}}
{{- define "dask-training-operator.jobRules" -}}
# Jobs are read; deleted when their time after the end is over; never created or changed but for their status.
- {apiGroups: [dask-training.io], resources: [dasktrainingjobs], verbs: [get, list, watch, delete]}
- {apiGroups: [dask-training.io], resources: [dasktrainingjobs/status], verbs: [patch]}
# What a job's attempt is made of.
- {apiGroups: [""], resources: [pods], verbs: [get, list, watch, create, delete, deletecollection]}
- {apiGroups: [""], resources: [services], verbs: [get, list, watch, create, delete]}
- {apiGroups: [networking.k8s.io], resources: [networkpolicies], verbs: [get, create]}
# To own them with blockOwnerDeletion, where the API server checks that (OpenShift).
- {apiGroups: [dask-training.io], resources: [dasktrainingjobs/finalizers], verbs: [update]}
- {apiGroups: [""], resources: [services/finalizers], verbs: [update]}
# Certificates of an attempt, a namespace's account of the artifact store: written, never read.
# A reply to patch shows the whole Secret, so it is for the one that the operator itself has made.
- {apiGroups: [""], resources: [secrets], verbs: [create]}
- {apiGroups: [""], resources: [secrets], verbs: [patch], resourceNames: [dask-training-store]}
# list: why a pod could not be scheduled or its volumes not mounted.
- {apiGroups: [""], resources: [events], verbs: [create, list]}
{{- end -}}

{{/* What someone who works with jobs may do: all that dask-training and kubectl need. */}}
{{- define "dask-training-operator.userRules" -}}
- {apiGroups: [dask-training.io], resources: [dasktrainingjobs], verbs: [get, list, watch, create, update, patch, delete, deletecollection]}
- {apiGroups: [dask-training.io], resources: [dasktrainingjobs/status], verbs: [get]}
- {apiGroups: [dask-training.io], resources: [dasktrainingjobs/scale], verbs: [get, update, patch]}
# Logs, the dashboard; create and delete: the pod through which artifacts are downloaded.
- {apiGroups: [""], resources: [pods], verbs: [get, list, watch, create, delete]}
- {apiGroups: [""], resources: [pods/log], verbs: [get]}
# create: for kubectl; get: for websockets, as dask-training has them.
- {apiGroups: [""], resources: [pods/portforward], verbs: [get, create]}
- {apiGroups: [""], resources: [events], verbs: [list]}
# Local code that goes along with a job.
- {apiGroups: [""], resources: [configmaps], verbs: [get, list, create, update, patch, delete]}
{{- end -}}

{{/* What the service account of a session's pod needs for launch_cluster and launch_workers, and no more: no pod can be made or entered with it. */}}
{{- define "dask-training-operator.sessionRules" -}}
- {apiGroups: [dask-training.io], resources: [dasktrainingjobs], verbs: [get, list, watch, create, patch, delete]}
# Its own pod, which owns what it launches; why a worker's pod does not run, and its log.
- {apiGroups: [""], resources: [pods], verbs: [get, list]}
- {apiGroups: [""], resources: [pods/log], verbs: [get]}
- {apiGroups: [""], resources: [events], verbs: [list]}
# Local code that goes along.
- {apiGroups: [""], resources: [configmaps], verbs: [create, patch, delete]}
{{- end -}}

{{- define "dask-training-operator.viewerRules" -}}
- {apiGroups: [dask-training.io], resources: [dasktrainingjobs], verbs: [get, list, watch]}
- {apiGroups: [dask-training.io], resources: [dasktrainingjobs/status, dasktrainingjobs/scale], verbs: [get]}
- {apiGroups: [""], resources: [pods], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [pods/log], verbs: [get]}
- {apiGroups: [""], resources: [events], verbs: [list]}
{{- end -}}
