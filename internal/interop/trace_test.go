package interop

import (
	"strings"
	"testing"
)

func TestReadTrace(t *testing.T) {
	// AQI= is 01 02, AwQ= is 03 04, BQY= is 05 06.
	const control = `{"ihave":[{"topic":"a","messageIDs":["AQI=","BQY="]}],"idontwant":[{"messageIDs":["AwQ="]}]}`
	trace, err := readTrace(strings.NewReader(`{"type":3,"deliverMessage":{"messageID":"AQI=","topic":"a"}}
{"type":1,"rejectMessage":{"messageID":"AwQ=","receivedFrom":"AAA=","reason":"validation failed","topic":"a"}}
{"type":6,"recvRPC":{"receivedFrom":"AAA=","meta":{"control":` + control + `}}}
{"type":3,"deliverMes`))
	if err != nil {
		t.Fatal(err)
	}
	if !trace.Delivered["a"]["AQI"] || len(trace.Delivered["a"]) != 1 {
		t.Errorf("delivered %v, want AQI only", trace.Delivered)
	}
	if len(trace.Rejected) != 1 || trace.Rejected[0].Reason != "validation failed" {
		t.Errorf("rejected %+v", trace.Rejected)
	}
	unknown := trace.Unknown()
	if len(unknown) != 1 || len(unknown["BQY"]) != 1 || unknown["BQY"][0].In != "IHAVE" {
		t.Errorf("unknown %+v, want BQY in an IHAVE", unknown)
	}
}
