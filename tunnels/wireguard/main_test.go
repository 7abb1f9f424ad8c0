package wireguard_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"shekara/tunnels/wireguard/dataplane"
)

// TestMain lets the test binary be the program that a userspace device runs in: TESTBINARY dataplane NAME RUNDIR.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "dataplane" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		err := dataplane.Run(ctx, os.Args[2], dataplane.Options{RunDir: os.Args[3], Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}
