package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// version is set by the linker: -X main.version=...
var version = "unknown"

func main() {
	debug.SetGCPercent(800) // a verb lives for moments: collecting ten thousand documents' garbage costs more than keeping it
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program; it answers the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	t := newTerminal(stdin, stdout, stderr, os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
	root := commands(t)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	return t.finish(ctx, err)
}
