package provisioning

import (
	"runtime/debug"
	"testing"

	"shekara/provisioning/document"
)

// Large requests side by side share the setting, and the last one puts it back.
func TestRoomyPutsTheCollectorBack(t *testing.T) {
	now := func() int {
		percent := debug.SetGCPercent(100)
		debug.SetGCPercent(percent)
		return percent
	}
	usual := now()
	large := Request{Files: []document.File{{Data: make([]byte, largeRequest)}}}
	small := roomy(Request{Files: []document.File{{Data: make([]byte, largeRequest-1)}}})
	if now() != usual {
		t.Errorf("a small request sets %d", now())
	}
	small()
	first, second := roomy(large), roomy(large)
	first()
	if now() != roomyPercent {
		t.Errorf("while one is left it is %d", now())
	}
	second()
	if now() != usual {
		t.Errorf("afterwards it is %d, before it was %d", now(), usual)
	}
}
