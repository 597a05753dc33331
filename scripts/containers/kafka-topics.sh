#!/bin/sh
exec java -XX:TieredStopAtLevel=1 -Xmx128m -XX:+UseSerialGC -cp '/opt/kafka/libs/*' \
  -Dorg.slf4j.simpleLogger.defaultLogLevel=error org.apache.kafka.tools.TopicCommand "$@"
