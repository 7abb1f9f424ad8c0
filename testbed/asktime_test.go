package testbed

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"testing"
	"time"
)

// TestAskAndTell: the testbed's client and its server understand each other, and the client knows a good answer from others.
func TestAskAndTell(t *testing.T) {
	for name, test := range map[string]struct {
		change func(answer []byte) []byte
		want   asked
	}{
		"good":               {func(a []byte) []byte { return a }, asked{Answered: 20, AnsweredBytes: 960, Good: 20}},
		"kiss":               {func(a []byte) []byte { a[1] = 0; copy(a[12:], "RATE"); return a }, asked{Answered: 20, AnsweredBytes: 960, Kisses: 20}},
		"not synchronised":   {func(a []byte) []byte { a[0] |= 0xc0; return a }, asked{Answered: 20, AnsweredBytes: 960, Unsynced: 20}},
		"to another request": {func(a []byte) []byte { a[ntpOrigin]++; return a }, asked{Answered: 20, AnsweredBytes: 960}},
		"none":               {func([]byte) []byte { return nil }, asked{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			t.Cleanup(func() { socket.Close(); <-done })
			go func() {
				defer close(done)
				answerUDP(socket, func(request []byte) []byte { return test.change(tell(request, time.Hour)) })
			}()
			var out bytes.Buffer
			args := []string{"--to", socket.LocalAddr().String(), "--from", "127.0.0.1,127.0.0.2", "--rate", "1000", "--for", "20ms"}
			if err := askTime(t.Context(), args, &out); err != nil {
				t.Fatal(err)
			}
			var got asked
			if err := askTime(t.Context(), append(args, "--least", "0.9"), io.Discard); (err == nil) != (test.want.Good > 0) {
				t.Errorf("with at least 9 of 10 good: %v", err)
			}
			if err := askTime(t.Context(), append(args, "--most", "0.1"), io.Discard); (err == nil) != (test.want.Answered == 0) {
				t.Errorf("with at most 1 of 10 answered: %v", err)
			}
			if err := json.Unmarshal(out.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			want := test.want
			want.Sent, want.SentBytes = 20, 20*ntpLength
			if got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

func TestMalformedPacketsAreOfEveryKind(t *testing.T) {
	next := malformedPackets(1)
	short, long, whole := 0, 0, 0
	for range 1000 {
		switch n := len(next()); {
		case n < ntpLength:
			short++
		case n > ntpLength:
			long++
		default:
			whole++
		}
	}
	if short < 100 || long < 100 || whole < 100 {
		t.Errorf("%d shorter than a header, %d longer, %d as long", short, long, whole)
	}
	again := malformedPackets(1)
	if first, second := malformedPackets(1)(), again(); !bytes.Equal(first, second) {
		t.Error("the same seed makes other packets")
	}
}
