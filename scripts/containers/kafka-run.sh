#!/bin/sh
# As the published image starts: its wrapper writes server.properties from the variables and formats the folder once.
set -eu

result=$(java -XX:TieredStopAtLevel=1 -cp '/opt/kafka/libs/*' -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
  kafka.docker.KafkaDockerWrapper setup --default-configs-dir /etc/kafka/docker --mounted-configs-dir /mnt/shared/config \
  --final-configs-dir /opt/kafka/config 2>&1) ||
  # That the folder is formatted is a failure to the wrapper, and to the published image's script is none.
  case $result in *"already formatted"*) ;; *) printf '%s\n' "$result" >&2 && exit 1 ;; esac
# shellcheck disable=SC2086 # several arguments
exec java ${KAFKA_HEAP_OPTS:-} -XX:+UseSerialGC -cp '/opt/kafka/libs/*' -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
  -Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info kafka.Kafka /opt/kafka/config/server.properties
