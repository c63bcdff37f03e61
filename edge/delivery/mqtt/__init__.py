"""Events and retained topics over MQTT."""
