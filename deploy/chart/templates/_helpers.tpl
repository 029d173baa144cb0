{{- define "headroom.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "headroom.fullname" -}}
{{- $name := include "headroom.name" . -}}
{{- $both := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $both | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* Both take (list $ "agent"), the second part being the component. */}}
{{- define "headroom.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: {{ include "headroom.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end }}

{{- define "headroom.labels" -}}
{{- $root := first . -}}
{{ include "headroom.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Takes (list $ image). */}}
{{- define "headroom.image" -}}
{{- $image := last . -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (first .).Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* Where a pod is to run, and how important it is. Takes the component's values. */}}
{{- define "headroom.placement" -}}
{{- range $key := list "nodeSelector" "affinity" "tolerations" }}
{{- with get $ $key }}
{{ $key }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* Where profiles are left: the mount of a claim, an object store, or nowhere. */}}
{{- define "headroom.depot" -}}
{{- with .Values.profiles }}
{{- if and .depot .claim }}
{{- fail "profiles: give a depot or a claim, not both" }}
{{- end }}
{{- ternary "/var/lib/headroom-profiles" .depot (not (empty .claim)) }}
{{- end }}
{{- end }}

{{/* What a container that uses the depot has of it. */}}
{{- define "headroom.depot.mount" -}}
{{- if .Values.profiles.claim -}}
- {name: profiles, mountPath: /var/lib/headroom-profiles}
{{- end }}
{{- end }}

{{- define "headroom.depot.volume" -}}
{{- with .Values.profiles.claim -}}
- name: profiles
  persistentVolumeClaim: {claimName: {{ . }}}
{{- end }}
{{- end }}

{{- define "headroom.depot.environment" -}}
{{- with .Values.profiles.secret -}}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
{{- end }}

{{/* Whether there is anything that a recommender could go by. */}}
{{- define "headroom.recommends" -}}
{{- if or .Values.recommender.prometheus.url (include "headroom.depot" .) }}true{{ end }}
{{- end }}

{{/* Egress that both need. */}}
{{- define "headroom.egress" -}}
- ports:  # DNS, wherever it runs: some clouds give the API server a name
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
- ports:
    {{- range .Values.networkPolicy.apiServer.ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .Values.networkPolicy.apiServer.to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- if .Values.profiles.depot }}
- ports:
    {{- range .Values.networkPolicy.depot.ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .Values.networkPolicy.depot.to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
