package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"shekara/journal"
	"shekara/netctl/durable"
	"shekara/provisioning"
	"shekara/provisioning/api"
	"shekara/provisioning/source"
)

// settings are the flags.
type settings struct {
	stateDir, runDir, etcDir string
	exportDir                string
	timeDir, timeRunDir      string
	engine                   string // auto, kernel, userspace
	logFormat, logLevel      string
}

// makeDirectories makes those that systemd's StateDirectory= and RuntimeDirectory= would have made. The run directory is open to all,
// since both groups pass it on the way to their socket; what may be done is the sockets' matter.
func (s settings) makeDirectories() error {
	for path, mode := range map[string]fs.FileMode{s.stateDir: 0o700, s.runDir: 0o755} {
		if _, err := os.Stat(path); err == nil {
			continue // as its maker wants it
		}
		// The umask has no say in who passes.
		if err := errors.Join(os.MkdirAll(path, mode), os.Chmod(path, mode)); err != nil {
			return hint(err, "shekarad runs as root, or with its directories made for it")
		}
	}
	return nil
}

// alone makes sure that one daemon at a time works on a run directory.
func (s settings) alone() (*durable.Lock, error) {
	lock, err := durable.AcquireLock(filepath.Join(s.runDir, "shekarad.lock"))
	var held *durable.HeldError
	if errors.As(err, &held) {
		return nil, hint(fmt.Errorf("another shekarad runs: %w", err), "systemctl stop shekarad ends it; the data plane goes on without it")
	}
	return lock, err
}

// maxSiteName bounds what is read of the file site.
const maxSiteName = 4096

// site is which Site document this box is. Without the file nothing can be applied, but the daemon runs and says so.
func (s settings) site() (string, error) {
	path := filepath.Join(s.etcDir, "site")
	text, err := durable.ReadFile(path, maxSiteName)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	name := strings.TrimSpace(string(text))
	if name == "" || len(strings.Fields(name)) != 1 {
		return "", hint(fmt.Errorf("%s: %q is not the name of a Site", path, name), "one line with metadata.name of the Site document that this box is")
	}
	return name, nil
}

// daemon is everything that runs, in the order in which it is stopped.
type daemon struct {
	settings settings
	site     string // "": not known
	log      *slog.Logger
	engine   *provisioning.Engine
	journal  provisioning.Recorder
	api      *api.Server
	doors    []api.Door
	manager  serviceManager
}

// serviceManager is whoever started the daemon and waits for it to be ready: systemd, or nobody.
type serviceManager interface {
	Ready() error
	Reloading() error
	Stopping() error
	// Watchdog pings for as long as alive says so, until the context ends. Without a watchdog it only waits.
	Watchdog(ctx context.Context, alive func() bool)
}

// Run starts and, when ctx ends, stops in order: no new requests, changes under way finish, the engine's loop ends, the journal is
// closed. The data plane is left as it is.
func (d *daemon) Run(ctx context.Context) error {
	engineCtx, stopEngine := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEngine()
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := d.engine.Run(engineCtx); err != nil {
			return fmt.Errorf("engine: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		defer stopEngine() // after the last request, which may still need it
		return d.api.Run(running, d.doors...)
	})
	group.Go(func() error {
		d.announce(running)
		return nil
	})
	group.Go(func() error {
		d.reread(running)
		return nil
	})
	group.Go(func() error {
		d.manager.Watchdog(engineCtx, func() bool { return time.Since(d.engine.Alive()) < api.Stalled })
		return nil
	})
	err := group.Wait()
	d.log.Info("stopped; the data plane is left as it is")
	return err
}

// announce tells the service manager when what boots is in force, and when the end begins.
func (d *daemon) announce(ctx context.Context) {
	select {
	case <-d.engine.Ready():
		d.log.Info("ready", "version", version)
		d.told(d.manager.Ready())
		<-ctx.Done()
	case <-ctx.Done():
	}
	d.log.Info("stopping")
	d.told(d.manager.Stopping())
}

func (d *daemon) told(err error) {
	if err != nil {
		d.log.Warn("tell the service manager", "error", err)
	}
}

// reread applies what is in /etc/shekara whenever SIGHUP comes.
func (d *daemon) reread(ctx context.Context) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		}
		d.told(d.manager.Reloading())
		d.reload(ctx)
		d.told(d.manager.Ready())
	}
}

// reload is apply --whole of the directory, by the daemon itself. What is refused leaves everything as it was.
func (d *daemon) reload(ctx context.Context) {
	log := d.log.With("directory", d.settings.etcDir)
	files, err := source.Read([]string{d.settings.etcDir}, nil)
	if err == nil && len(files) == 0 {
		// An unmounted or emptied directory must not take down every tunnel.
		err = errors.New("there are no documents in it, and nothing is removed by accident: shekara apply --whole can")
	}
	if err == nil && d.site == "" {
		err = errors.New("this box does not know which Site it is: write its name into the file site, then restart shekarad")
	}
	if err != nil {
		log.Error("re-read refused; the revision in force stays", "error", err)
		d.refuse(err)
		return
	}
	result, err := d.engine.Apply(context.WithoutCancel(ctx), provisioning.Request{Files: files, Whole: true, Message: "re-read of " + d.settings.etcDir})
	var invalid *provisioning.InvalidError
	if errors.As(err, &invalid) {
		for _, p := range invalid.Problems {
			log.Error("problem", "where", p.Position.String(), "what", p.What, "value", p.Value, "hint", p.Hint)
		}
	}
	if err != nil {
		log.Error("re-read refused; the revision in force stays", "error", err)
		return
	}
	for _, c := range result.Plan.Changes {
		if c.Verb == "remove" {
			log.Warn("removed, since it is absent", "kind", c.Kind, "name", c.Name)
		}
	}
	log.Info("re-read", "revision", result.Revision, "changes", len(result.Plan.Changes), "failed", len(result.Failed))
	if result.ConfirmBy != nil {
		log.Warn("the change is undone unless confirmed: shekara confirm", "by", *result.ConfirmBy)
	}
}

// refuse puts on record what the engine did not get to see.
func (d *daemon) refuse(cause error) {
	d.journal.Post(journal.Event{Type: journal.DocumentsReject, Severity: journal.Error, Message: fmt.Sprintf("re-read of %s refused: %.4000v", d.settings.etcDir, cause)})
}
