{{- define "runfleet.name" -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{- define "runfleet.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "runfleet.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ ternary "watch" "tick" (eq .Values.mode "watch") }}
{{- end }}

{{- define "runfleet.account" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "runfleet.name" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name must be there where serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "runfleet.stacks" -}}
{{- if .Values.stack.existingConfigMap -}}
{{- .Values.stack.existingConfigMap -}}
{{- else -}}
{{- include "runfleet.name" . }}-stacks
{{- end -}}
{{- end }}

{{/* The pod, of a watch or of a tick. */}}
{{- define "runfleet.pod" -}}
metadata:
  labels:
    {{- include "runfleet.selector" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    {{- if not .Values.stack.existingConfigMap }}
    # A stack that changed begins new pods.
    checksum/stack: {{ .Values.stack.text | sha256sum }}
    {{- end }}
    checksum/templates: {{ .Values.templates | toJson | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- if eq .Values.mode "scale" }}
  restartPolicy: Never
  {{- end }}
  serviceAccountName: {{ include "runfleet.account" . }}
  # The cluster is called as this account, where Jobs are made in it.
  automountServiceAccountToken: {{ not (empty .Values.runnerNamespaces) }}
  enableServiceLinks: false
  # Ends what is under way, and gives the lock back.
  terminationGracePeriodSeconds: 90
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    seccompProfile:
      type: RuntimeDefault
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if eq .Values.mode "watch" }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "runfleet.selector" . | nindent 10 }}
  {{- end }}
  containers:
    - name: runfleet
      image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - --stack
        - {{ .Values.stack.name }}
        - --log-format
        - json
        {{- if eq .Values.mode "watch" }}
        - watch
        - --listen
        - "0.0.0.0:{{ .Values.watch.port }}"
        {{- else }}
        - scale
        {{- end }}
      {{- with .Values.env }}
      env:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.envFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if eq .Values.mode "watch" }}
      ports:
        - name: http
          containerPort: {{ .Values.watch.port }}
          protocol: TCP
      livenessProbe:
        httpGet:
          path: /healthz
          port: http
        periodSeconds: 20
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet:
          path: /readyz
          port: http
        periodSeconds: 10
        timeoutSeconds: 5
      {{- end }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        - name: stacks
          mountPath: /etc/runfleet/stacks
          readOnly: true
        {{- if .Values.templates }}
        - name: templates
          mountPath: /etc/runfleet/templates
          readOnly: true
        {{- end }}
        - name: tmp
          mountPath: /tmp
  volumes:
    - name: stacks
      configMap:
        name: {{ include "runfleet.stacks" . }}
    {{- if .Values.templates }}
    - name: templates
      configMap:
        name: {{ include "runfleet.name" . }}-templates
    {{- end }}
    - name: tmp
      emptyDir:
        medium: Memory
        sizeLimit: 16Mi
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
