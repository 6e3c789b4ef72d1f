#!/bin/sh
# What Ray starts as HAProxy. Its statistics and metrics have no setting for their address and are nobody
# else's business, and it has no limit for slow headers: the configuration that Ray wrote is mended before
# each start. Our application looks after its callers itself (deployments/caller.py), so that Serve need not.
# It ends with the actor that started it, since an orphan would keep the port.
# The variables come from deployments/cluster.py.
for word in "$@"; do
  if [ "$last" = "-f" ]; then
    sed -i \
      -e "s/bind \**:\($RAY_SERVE_HAPROXY_STATS_PORT\|$RAY_SERVE_HAPROXY_METRICS_PORT\)\$/bind 127.0.0.1:\1/" \
      -e "s/^\( *\)timeout client .*/&\n\1timeout http-request ${HEADRACE_HEADER_S}s/" \
      -e "s/^\( *\)timeout client .*/&\n\1timeout http-keep-alive ${HEADRACE_IDLE_S}s/" \
      -e "s/^frontend http_frontend\$/&\n    http-request set-header x-request-disconnect-disabled ?1 if { path_beg \/v2 }/" \
      "$word"
  fi
  last=$word
done
exec "$HEADRACE_PYTHON" -IS "$HEADRACE_GUARD" "$PPID" TERM "$HEADRACE_HAPROXY" "$@"
