{{/* The content of config.yaml as a map. Values of the user take precedence. */}}
{{- define "manager.configuration" -}}
{{- $chart := dict
      "name" (include "manager.fullname" .)
      "namespace" .Release.Namespace
      "server-port-http" (int .Values.httpPort) -}}
{{- range $cluster, $flag := dict "default" "kubeconfig" "source" "source" "dns" "dns" "target" "target" -}}
{{- $where := index $.Values.clusters $cluster -}}
{{- if $where.kubeconfigSecret -}}
{{- $_ := set $chart $flag (dict "_" (printf "/etc/cert-controller-manager/%s/kubeconfig" $cluster)) -}}
{{- else if $where.inCluster -}}
{{- $_ := set $chart $flag (dict "_" "IN-CLUSTER") -}}
{{- end -}}
{{- end -}}
{{- if .Values.caCertificates -}}
{{- $_ := set $chart "ca-certificates" "/etc/cert-controller-manager/ca/certs.pem" -}}
{{- $_ := set $chart "ca-system-cert-pool" true -}}
{{- end -}}
{{- if not .Values.createCRDs.issuers -}}
{{- $_ := set $chart "kubeconfig.disable-deploy-crds" true -}}
{{- end -}}
{{- if not .Values.createCRDs.certificates -}}
{{- $_ := set $chart "source.disable-deploy-crds" true -}}
{{- $_ := set $chart "target.disable-deploy-crds" true -}}
{{- end -}}
{{- if not (dig "dnsEntries" true .Values.createCRDs) -}}
{{- $_ := set $chart "dns.disable-deploy-crds" true -}}
{{- end -}}
{{- if (.Values.metricsAuthorization).enabled -}}
{{- $_ := set $chart "metrics-authorization" true -}}
{{- end -}}
{{- if not (include "manager.givenIssuerNamespace" .) -}}
{{- $_ := set $chart "issuer-namespace" (include "manager.issuerNamespace" .) -}}
{{- end -}}
{{- mergeOverwrite $chart (deepCopy .Values.configuration) | toYaml -}}
{{- end -}}

{{/* The namespace of Issuers in the configuration, if it is set. */}}
{{- define "manager.givenIssuerNamespace" -}}
{{- $given := dict -}}
{{- include "manager.flatten" (dict "map" .Values.configuration "prefix" "" "into" $given) -}}
{{- coalesce (get $given "issuer.issuer-namespace") (get $given "issuer-namespace") | default "" -}}
{{- end -}}

{{/* The namespace of Issuers. */}}
{{- define "manager.issuerNamespace" -}}
{{- $own := default (printf "%s-issuers" (include "manager.fullname" . | trunc 55 | trimSuffix "-")) (.Values.issuerNamespace).name -}}
{{- default $own (include "manager.givenIssuerNamespace" .) -}}
{{- end -}}

{{/* Adds the flags of .map to .into, by their full names. */}}
{{- define "manager.flatten" -}}
{{- range $key, $value := .map -}}
{{- $name := $key -}}
{{- if $.prefix -}}
{{- $name = ternary $.prefix (printf "%s.%s" $.prefix $key) (eq $key "_") -}}
{{- end -}}
{{- if kindIs "map" $value -}}
{{- include "manager.flatten" (dict "map" $value "prefix" $name "into" $.into) -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- $_ := set $.into $name $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The flags by their full names, as a map. */}}
{{- define "manager.flags" -}}
{{- $flags := dict -}}
{{- include "manager.flatten" (dict "map" (include "manager.configuration" . | fromYaml) "prefix" "" "into" $flags) -}}
{{- $flags | toYaml -}}
{{- end -}}

{{/* Whether each logical cluster is the cluster that the chart is installed in, as a map. */}}
{{- define "manager.local" -}}
{{- $default := not .Values.clusters.default.kubeconfigSecret -}}
{{- $source := include "manager.isLocal" (dict "where" .Values.clusters.source "fallback" $default) -}}
{{- $dns := include "manager.isLocal" (dict "where" .Values.clusters.dns "fallback" $default) -}}
{{- $target := include "manager.isLocal" (dict "where" .Values.clusters.target "fallback" (eq $source "true")) -}}
default: {{ $default }}
source: {{ $source }}
dns: {{ $dns }}
target: {{ $target }}
{{- end -}}

{{- define "manager.isLocal" -}}
{{- if .where.kubeconfigSecret -}}false{{- else -}}{{ or .where.inCluster .fallback }}{{- end -}}
{{- end -}}

{{/* "true" if the manager uses the cluster that it runs in. */}}
{{- define "manager.anyLocal" -}}
{{- $any := false -}}
{{- range $cluster, $here := include "manager.local" . | fromYaml -}}{{- $any = or $any $here -}}{{- end -}}
{{- $any -}}
{{- end -}}
