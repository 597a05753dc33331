{{- define "remit.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters: the longest name made of it is followed by "-worker-deliveries". */}}
{{- define "remit.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "remit.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "remit.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The roles that lead a life of their own, in the order in which they are listed everywhere. */}}
{{- define "remit.roles" -}}
api bridge worker worker-deliveries relay ingest
{{- end -}}

{{- define "remit.selectorLabels" -}}
app.kubernetes.io/name: {{ include "remit.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "remit.labels" -}}
{{ include "remit.selectorLabels" . }}
{{- /* A tag may be longer than a label's value. */}}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | trimAll "-_." | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "remit.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "remit.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "remit.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* A variable's value as text. Numbers of YAML are floats to Helm, and a large one would be written as 7.776e+09. */}}
{{- define "remit.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ printf "%.0f" . }}{{- else -}}{{ toString . }}{{- end -}}
{{- end -}}

{{/* {root, role, name, default}: a variable as the role sees it, as far as `config` says it. */}}
{{- define "remit.variable" -}}
{{- $own := (index .root.Values.roles .role).config -}}
{{- $value := .default -}}
{{- range $from := list .root.Values.config ($own | default dict) -}}
{{- with index $from $.name -}}{{- $value = . -}}{{- end -}}
{{- end -}}
{{- include "remit.text" $value -}}
{{- end -}}

{{/* Seconds that a role is given to stop: its ordered shutdown, what comes before it, and some to spare. */}}
{{- define "remit.graceSeconds" -}}
{{- $ms := include "remit.variable" (dict "root" .root "role" .role "name" "SHUTDOWN_TIMEOUT_MS" "default" "30000") | int64 -}}
{{- add (div (add $ms 999) 1000) (ternary 10 0 (eq .role "api")) 15 -}}
{{- end -}}

{{- define "remit.secretName" -}}
{{- .Values.existingSecret | default (include "remit.fullname" .) -}}
{{- end -}}

{{- define "remit.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ .Values.pod.runAsUser }}
runAsGroup: {{ .Values.pod.runAsGroup }}
fsGroup: {{ .Values.pod.runAsGroup }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "remit.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: {{ .Values.pod.runAsUser }}
runAsGroup: {{ .Values.pod.runAsGroup }}
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Where pods may run. */}}
{{- define "remit.scheduling" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.pod.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.pod.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.pod.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Ports are the chart's: probes, Services and policies name them. */}}
{{- define "remit.portVariables" -}}
- {name: API_PORT, value: "8080"}
- {name: METRICS_PORT, value: "9464"}
{{- end -}}

{{/* 288 is 0440: the files are root's, and the group is the pod's. */}}
{{- define "remit.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- if .Values.certificates.existingSecret }}
- name: certificates
  secret: {secretName: {{ .Values.certificates.existingSecret }}, defaultMode: 288}
{{- end }}
{{- end -}}

{{- define "remit.volumeMounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .Values.certificates.existingSecret }}
- {name: certificates, mountPath: {{ .Values.certificates.mountPath }}, readOnly: true}
{{- end }}
{{- end -}}

{{/* {root, port}: an egress rule to one of the servers. */}}
{{- define "remit.egressTo" -}}
{{- $server := index .root.Values.networkPolicy .server -}}
- ports:
    {{- range $server.ports }}
    - {protocol: TCP, port: {{ . | int }}}
    {{- end }}
  {{- with $server.to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "remit.publicAddresses" -}}
- ipBlock: {cidr: 0.0.0.0/0, except: {{ toJson .Values.networkPolicy.privateCidrs }}}
- ipBlock: {cidr: "::/0", except: {{ toJson .Values.networkPolicy.privateCidrsIPv6 }}}
{{- end -}}

{{/* What can't be right is said before anything is rendered: every template begins with it. */}}
{{- define "remit.check" -}}
{{- $values := .Values -}}
{{- range list "backup" "certificates" "config" "image" "ingress" "keda" "migrate" "monitoring" "networkPolicy" "pod" "podDisruptionBudget" "roles" "secrets" "service" "serviceAccount" -}}
{{- if kindIs "invalid" (index $values .) -}}
{{- fail (printf "%s is null: leave it out, or write what is to differ" .) -}}
{{- end -}}
{{- end -}}
{{- range $role := splitList " " (include "remit.roles" .) -}}
{{- $own := index $values.roles $role | default dict -}}
{{- range $name := list "autoscaling" "scaling" -}}
{{- with index $own $name -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- fail (printf "roles.%s.%s: minReplicas (%d) is more than maxReplicas (%d)" $role $name (int .minReplicas) (int .maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq $role "api") (dig "autoscaling" "enabled" false $own) (not (dig "resources" "requests" "cpu" "" $own)) -}}
{{- fail "roles.api.autoscaling is by CPU: it needs roles.api.resources.requests.cpu" -}}
{{- end -}}
{{- range $from := list $values.config ($own.config | default dict) -}}
{{- range $variable, $value := $from -}}
{{- if regexMatch "://[^/@]*:[^/@]+@" (toString $value) -}}
{{- fail (printf "%s with a password stands in config, where everybody can read it who sees the release: put it into the Secret" $variable) -}}
{{- end -}}
{{- range $values.extraEnv -}}
{{- if eq .name $variable -}}
{{- fail (printf "%s stands both in config and in extraEnv" $variable) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $given := merge (dict) .Values.secrets .Values.config -}}
{{- range concat (.Values.extraEnv | default list) (.Values.migrate.extraEnv | default list) -}}{{- $_ := set $given .name "given" -}}{{- end -}}
{{- if and .Values.existingSecret .Values.secrets -}}
{{- fail "existingSecret and secrets are both set: give the roles one of them" -}}
{{- end -}}
{{- if not (or .Values.existingSecret .Values.secrets) -}}
{{- fail "Neither existingSecret nor secrets is set. Make a Secret with DATABASE_URL, ENCRYPTION_KEY, PROVIDER_SECRET_DECARD and ORDER_WEBHOOK_SECRET and name it in existingSecret (docs/kubernetes.md)" -}}
{{- end -}}
{{- if not .Values.existingSecret -}}
{{- $needed := list "DATABASE_URL" "KAFKA_BROKERS" "TEMPORAL_ADDRESS" "CLICKHOUSE_URL" "ENCRYPTION_KEY" -}}
{{- if not (has (toString .Values.config.PROVIDER_SIGNATURES_REQUIRED) (list "false" "0")) -}}
{{- $needed = concat $needed (list "PROVIDER_SECRET_DECARD" "ORDER_WEBHOOK_SECRET") -}}
{{- end -}}
{{- $missing := list -}}
{{- range $needed -}}{{- if not (get $given .) -}}{{- $missing = append $missing . -}}{{- end -}}{{- end -}}
{{- if $missing -}}
{{- fail (printf "Not set, neither in secrets nor in config: %s" (join ", " $missing)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.keda.enabled (not (and .Values.config.KAFKA_BROKERS .Values.config.TEMPORAL_ADDRESS)) -}}
{{- fail "keda.enabled needs KAFKA_BROKERS and TEMPORAL_ADDRESS in config: KEDA asks both by itself" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.enabled needs ingress.hosts" -}}
{{- end -}}
{{- end -}}
