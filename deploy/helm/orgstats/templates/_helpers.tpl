{{- define "orgstats.name" -}}
{{- if contains "orgstats" .Release.Name }}{{ .Release.Name | trunc 45 | trimSuffix "-" }}{{ else }}{{ printf "%s-orgstats" (.Release.Name | trunc 36 | trimSuffix "-") }}{{ end }}
{{- end }}

{{/* Labels by which pods are found; takes the root and a component. */}}
{{- define "orgstats.selector" -}}
app.kubernetes.io/name: orgstats
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "orgstats.labels" -}}
{{ include "orgstats.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* What every pod's spec begins with; takes the root, a component and that component's values. */}}
{{- define "orgstats.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false # Kubernetes would add variables that begin with ORGSTATS_
{{- with include "orgstats.serviceAccount" . }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .values.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with .values.affinity }}
affinity: {{ toJson . }}
{{- end }}
{{- end }}

{{/* Empty for the namespace's default. The migrate hook runs before the release's own account is there. */}}
{{- define "orgstats.serviceAccount" -}}
{{- $account := .root.Values.serviceAccount }}
{{- if not $account.create }}{{ $account.name }}{{ else if ne .component "migrate" }}{{ $account.name | default (include "orgstats.name" .root) }}{{ end }}
{{- end }}

{{- define "orgstats.spread" -}}
{{- $anyway := list (dict "maxSkew" 1 "topologyKey" "topology.kubernetes.io/zone" "whenUnsatisfiable" "ScheduleAnyway") (dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway") }}
topologySpreadConstraints:
  {{- range .values.topologySpreadConstraints | default $anyway }}
  - {{ toYaml . | nindent 4 | trim }}
    labelSelector:
      matchLabels: {{- include "orgstats.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}

{{- define "orgstats.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ with .Values.image.digest }}@{{ . }}{{ end }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "orgstats.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: clickhouse, mountPath: /etc/orgstats/clickhouse, readOnly: true}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Takes the root and the Secret with ClickHouse's URL. */}}
{{- define "orgstats.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
- name: clickhouse
  secret:
    secretName: {{ .secret.name }}
    defaultMode: 0440
    items: [{key: {{ .secret.key | quote }}, path: url}]
{{- with .root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The environment that every command has. */}}
{{- define "orgstats.env" -}}
- {name: ORGSTATS_CLICKHOUSE_URL_FILE, value: /etc/orgstats/clickhouse/url}
{{- with .Values.env }}
{{ include "orgstats.variables" (dict "prefix" "" "values" .) | trim }}
{{- end }}
{{- end }}

{{/* Variables for names and values; takes what they begin with and the map. */}}
{{- define "orgstats.variables" -}}
{{- range $name, $value := .values }}
{{/* toJson, because a large number would be written as 1e+07 */ -}}
- {name: {{ $.prefix }}{{ $name | upper | replace "." "_" }}, value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}}
{{- end }}
{{- end }}

{{- define "orgstats.mostConsumers" -}}
{{ .Values.consumer.autoscaling.maxReplicas | default .Values.kafka.partitions }}
{{- end }}

{{- define "orgstats.fewestConsumers" -}}
{{ .Values.consumer.autoscaling.minReplicas | default .Values.consumer.replicas }}
{{- end }}

{{/* How many consumers there may be at once. */}}
{{- define "orgstats.consumers" -}}
{{ if .Values.consumer.autoscaling.enabled }}{{ include "orgstats.mostConsumers" . }}{{ else }}{{ .Values.consumer.replicas }}{{ end }}
{{- end }}

{{/* The least FLUSH_SECONDS with which they stay at ten inserts a second into one table. */}}
{{- define "orgstats.flushSeconds" -}}
{{ max 1 (divf (include "orgstats.consumers" . | float64) 10 | ceil) }}
{{- end }}

{{/* Replicas of what scales itself: those that there are, or the field's absence would mean 1 until it has scaled.
     Takes the root, kind, name and how many there are at first. */}}
{{- define "orgstats.replicas" -}}
{{- $found := lookup "apps/v1" .kind .root.Release.Namespace .name }}
{{- if and .scales $found }}{{ $found.spec.replicas }}{{ else }}{{ .first }}{{ end }}
{{- end }}
