package provisioning

import (
	"runtime/debug"
	"sync"
)

const (
	largeRequest = 256 << 10 // bytes of documents: some 500 tunnels
	roomyPercent = 400       // GOGC while a large request is carried out: with the usual 100 a fifth of the processor goes to the collector
)

// collector is the one setting of the process that large requests share.
var collector struct {
	sync.Mutex
	large int
	usual int // GOGC before
}

// roomy lets the garbage collector wait while a large request is carried out, and has the memory given back after the last. The
// function that it returns ends it.
func roomy(request Request) (end func()) {
	size := 0
	for _, f := range request.Files {
		size += len(f.Data)
	}
	if size < largeRequest {
		return func() {}
	}
	collector.Lock()
	defer collector.Unlock()
	if collector.large++; collector.large == 1 {
		collector.usual = debug.SetGCPercent(roomyPercent)
	}
	return func() {
		collector.Lock()
		defer collector.Unlock()
		if collector.large--; collector.large == 0 {
			debug.SetGCPercent(collector.usual)
			go debug.FreeOSMemory() // nobody waits for it
		}
	}
}
