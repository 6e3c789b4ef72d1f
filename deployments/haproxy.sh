#!/bin/sh
# What Ray starts as HAProxy. Its statistics and metrics have no setting for their address and are nobody
# else's business, and it has no limit for slow headers: the configuration that Ray wrote is mended before
# each start, and gets our rules (deployments/haproxy_front.cfg). It ends with the actor that started it,
# since an orphan would keep the port. The variables come from deployments/flags.py.
for word in "$@"; do
  if [ "$last" = "-f" ]; then
    sed -i \
      -e "s/bind \**:\($RAY_SERVE_HAPROXY_STATS_PORT\|$RAY_SERVE_HAPROXY_METRICS_PORT\)\$/bind 127.0.0.1:\1/" \
      -e "s/^\( *\)timeout connect .*/\1timeout connect 250ms/" \
      -e "s/^\( *\)timeout client .*/&\n\1timeout http-request ${HEADRACE_HEADER_S}s/" \
      -e "s/^\( *\)timeout client .*/&\n\1timeout http-keep-alive ${HEADRACE_IDLE_S}s/" \
      -e "/^frontend http_frontend\$/r $HEADRACE_FRONT" \
      "$word"
  fi
  last=$word
done
exec "$HEADRACE_PYTHON" -IS "$HEADRACE_GUARD" "$PPID" TERM "$HEADRACE_HAPROXY" "$@"
