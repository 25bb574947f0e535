module podswell.dev/tests/keda/v2.16

go 1.26.0

require (
	github.com/kedacore/keda/v2 v2.16.1
	google.golang.org/grpc v1.69.2
)

require (
	golang.org/x/net v0.33.0 // indirect
	golang.org/x/sys v0.28.0 // indirect
	golang.org/x/text v0.21.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20241209162323-e6fa225c2576 // indirect
	google.golang.org/protobuf v1.36.0 // indirect
)
