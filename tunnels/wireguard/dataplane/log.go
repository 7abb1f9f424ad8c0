package dataplane

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// The library logs an error for each packet that it cannot send. A burst shows what is wrong; the rest of a minute is only counted, so
// that one peer that is off, or hostile packets, fill no disk.
const (
	linesEach   = 30
	linesPeriod = time.Minute
)

// logger passes the library's errors on. Its verbose messages, some for every packet, stay out. Neither holds keys: peers are named by
// the first and last four letters of their public keys.
func logger(log *slog.Logger) *device.Logger {
	l := &limited{log: log}
	return &device.Logger{Verbosef: device.DiscardLogf, Errorf: l.errorf}
}

type limited struct {
	log *slog.Logger

	mu         sync.Mutex
	began      time.Time
	lines      int
	suppressed int
}

func (l *limited) errorf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.began) >= linesPeriod {
		if l.suppressed > 0 {
			l.log.Warn("userspace device logged too much", "suppressed", l.suppressed)
		}
		l.began, l.lines, l.suppressed = now, 0, 0
	}
	if l.lines++; l.lines > linesEach {
		l.suppressed++
		return
	}
	l.log.Error(strings.TrimSpace(fmt.Sprintf(format, args...)))
}
