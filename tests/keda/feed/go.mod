module podswell.dev/tests/keda/feed

go 1.26.0
