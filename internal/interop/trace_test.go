package interop

import (
	"strings"
	"testing"
)

func TestReadTrace(t *testing.T) {
	// AQI= is 01 02, AwQ= is 03 04, BQY= is 05 06.
	const control = `{"ihave":[{"topic":"a","messageIDs":["AQI=","BQY="]}],"idontwant":[{"messageIDs":["AwQ="]}]}`
	const hello = `{"type":6,"recvRPC":{"receivedFrom":"AAA=","meta":{"subscription":[{"subscribe":true,"topic":"a"}]}}}
{"type":4,"onNewOutboundStream":{"peerID":"AAA=","proto":"/meshsub/1.2.0"}}
`
	trace, err := readTrace(strings.NewReader(`{"type":3,"deliverMessage":{"messageID":"AQI=","topic":"a"}}
` + hello + `{"type":1,"rejectMessage":{"messageID":"AwQ=","receivedFrom":"AAA=","reason":"validation failed","topic":"a"}}
{"type":6,"recvRPC":{"receivedFrom":"AAA=","meta":{"control":` + control + `}}}
` + hello[:strings.Index(hello, "\n")+1] + `{"type":3,"deliverMes`))
	if err != nil {
		t.Fatal(err)
	}
	if !trace.Delivered["a"]["AQI"] || len(trace.Delivered["a"]) != 1 {
		t.Errorf("delivered %v, want AQI only", trace.Delivered)
	}
	if len(trace.Rejected) != 1 || trace.Rejected[0].Reason != "validation failed" {
		t.Errorf("rejected %+v", trace.Rejected)
	}
	if before := trace.Before[tracePeer([]byte{0, 0})]; !before["AQI"] || len(before) != 1 {
		t.Errorf("before the peer the relay knew %v, want AQI only", before)
	}
	unknown := trace.Unknown()
	if len(unknown) != 1 || len(unknown["BQY"]) != 1 || unknown["BQY"][0].In != "IHAVE" {
		t.Errorf("unknown %+v, want BQY in an IHAVE", unknown)
	}
}
