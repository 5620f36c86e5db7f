{{- define "dask-training-job.name" -}}
{{- $name := default .Release.Name .Values.name -}}
{{- if gt (len $name) 40 -}}
{{- fail (printf "name: a job's name may have 40 characters, and the release's, %s, has %d: give a shorter one with --set name=..." $name (len $name)) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- define "dask-training-job.labels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}
