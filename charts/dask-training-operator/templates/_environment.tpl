{{/* The operator's settings, as dask_training/settings.py reads them; a test compares the names. Values that are not given are left to its defaults. */}}
{{- define "dask-training-operator.environment" -}}
{{- $base := include "dask-training-operator.base" . -}}
{{- $settings := dict
  "SCOPE" .Values.rbac.scope
  "RUNTIME_IMAGE" (include "dask-training-operator.image" (list . .Values.jobs.image))
  "IMAGE_PULL_POLICY" .Values.jobs.image.pullPolicy
  "KEY_FILE" "/etc/dask-training-operator/key/key"
  "MAX_CONCURRENT_JOBS" (.Values.operator.maxConcurrentJobs | int64 | toString)
  "SCALE_DOWN_SECONDS" (.Values.jobs.scaleDownSeconds | int64 | toString)
  "IMAGE_PULL_DEADLINE_SECONDS" (.Values.jobs.imagePullDeadlineSeconds | int64 | toString)
  "NETWORK_POLICY" (.Values.jobs.networkPolicy | toString)
  "LOG_FORMAT" .Values.operator.log.format
  "LOG_LEVEL" .Values.operator.log.level
  "HEALTH_PORT" "8080"
  "LEASE_NAME" (printf "%s-operator" $base)
-}}
{{- if eq .Values.rbac.scope "namespaces" -}}
{{- $_ := set $settings "WATCH_NAMESPACES" (include "dask-training-operator.watchNamespaces" . | fromJsonArray | join ",") -}}
{{- end -}}
{{- if not (kindIs "invalid" .Values.jobs.ttlSecondsAfterFinished) -}}
{{- $_ := set $settings "DEFAULT_TTL_SECONDS" (.Values.jobs.ttlSecondsAfterFinished | int64 | toString) -}}
{{- end -}}
{{- if not (kindIs "invalid" .Values.jobs.maxWorkers) -}}
{{- $_ := set $settings "MAX_WORKERS" (.Values.jobs.maxWorkers | int64 | toString) -}}
{{- end -}}
{{- with .Values.jobs.prices -}}
{{- $_ := set $settings "PRICES" (toJson .) -}}
{{- end -}}
{{- with .Values.jobs.priorityClassName -}}
{{- $_ := set $settings "PRIORITY_CLASS" . -}}
{{- end -}}
{{- if .Values.store.enabled -}}
{{- $host := include "dask-training-operator.storeHost" . -}}
{{- $_ := set $settings "STORE_ENDPOINT" (printf "http://%s:7070" $host) -}}
{{- $_ := set $settings "STORE_ADMIN_ENDPOINT" (printf "http://%s:7071" $host) -}}
{{- $_ := set $settings "STORE_CREDENTIALS_DIR" "/etc/dask-training-operator/store" -}}
{{- $_ := set $settings "STORE_REGION" .Values.store.region -}}
{{- end -}}
- name: DASK_TRAINING_OPERATOR_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- range $name, $value := $settings }}
- name: DASK_TRAINING_OPERATOR_{{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}
