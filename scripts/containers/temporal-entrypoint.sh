#!/bin/sh
# The server's own settings come from variables (its embedded template). An address to bind to that is none to be called
# at needs one that is: this container's.
set -eu

address=$(getent hosts "$(hostname)" | awk '{ print $1; exit }')
: "${BIND_ON_IP:=$address}"
export BIND_ON_IP
if [ "$BIND_ON_IP" = 0.0.0.0 ]; then
  : "${TEMPORAL_BROADCAST_ADDRESS:=$address}"
  export TEMPORAL_BROADCAST_ADDRESS
fi
exec temporal-server start
