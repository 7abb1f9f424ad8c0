package provisioning

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"shekara/journal"
	"shekara/netctl"
	"shekara/tunnels"
)

// device is the name of the box's one device.
func (b *box) device() string {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for name := range b.intent.base.Devices {
		return name
	}
	b.t.Fatal("no device")
	return ""
}

func (b *box) breakRoute(a agency) {
	b.network.DeleteRoute(netctl.Route{Table: netctl.InnerTable, Prefix: netip.MustParsePrefix(a.prefixText()), Link: b.device()})
}

// wait lets the loop turn, whether by a tick or otherwise.
func (b *box) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestDriftIsRepaired(t *testing.T) {
	for name, damage := range map[string]func(b *box) error{
		"route deleted": func(b *box) error { b.breakRoute(agency{n: 0}); return nil },
		"device gone": func(b *box) error {
			name := b.device()
			b.tunnels.Lose(name)
			b.network.DeleteLink(name)
			return nil
		},
		"table gone":     func(b *box) error { b.filter.Vanish(); return nil },
		"element opened": func(b *box) error { b.filter.Tamper(someElement(b)); return nil },
		"allowed IPs": func(b *box) error {
			return b.tunnels.Pass(b.device(), agency{n: 0}.publicKey(), func(p *tunnels.PeerState) {
				p.AllowedIPs = append(p.AllowedIPs, netip.MustParsePrefix("10.0.0.0/8"))
			})
		},
		"keepalive": func(b *box) error {
			return b.tunnels.Pass(b.device(), agency{n: 0}.publicKey(), func(p *tunnels.PeerState) { p.Keepalive = 7 * time.Second })
		},
		"a stranger's peer": func(b *box) error {
			failed := b.tunnels.Apply(t.Context(), []tunnels.Op{{Kind: tunnels.PeerAdd, Device: tunnels.DeviceSpec{Name: b.device()},
				Peer: tunnels.Spec{Device: b.device(), PublicKey: agency{n: 99}.publicKey()}}})
			if len(failed) > 0 {
				return failed[0]
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *box) {
				b.wait(time.Minute)
				if n := b.events.count(journal.DriftFind); n != 0 {
					t.Fatalf("drift was found before any: %v", b.events.types())
				}
				if err := damage(b); err != nil {
					t.Fatal(err)
				}
				b.wait(2 * lookEvery)
				b.mustBe(1, Confirmed, agency{n: 0}, agency{n: 1})
				if b.events.count(journal.DriftFind) != 1 || b.events.count(journal.DriftRepair) != 1 || b.events.count(journal.DriftStop) != 0 {
					t.Errorf("events: %v", b.events.types())
				}
			})
		})
	}
}

func someElement(b *box) (set, element string) {
	table, _ := b.filter.Table()
	for _, set := range table.Elements.Sets() {
		return set, table.Elements[set][0]
	}
	b.t.Fatal("the filter has no elements")
	return "", ""
}

// What the far side and traffic do is no drift.
func TestTrafficIsNoDrift(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		err := b.tunnels.Pass(b.device(), agency{n: 0}.publicKey(), func(p *tunnels.PeerState) {
			p.Endpoint = netip.MustParseAddrPort("198.18.0.0:40001") // NAT gave it another port
			p.LastHandshake, p.ReceivedBytes, p.SentBytes = time.Now(), 1000, 2000
		})
		if err != nil {
			t.Fatal(err)
		}
		b.onStep(func(step string) { t.Errorf("a step on the host: %s", step) })
		b.wait(5 * time.Minute)
		if n := b.events.count(journal.DriftFind); n != 0 {
			t.Errorf("events: %v", b.events.types())
		}
		b.onStep(nil)
		b.kill() // nor is it after a restart
		b.onStep(func(step string) { t.Errorf("a step on the host: %s", step) })
		b.run()
		b.wait(5 * time.Minute)
		b.onStep(nil)
	})
}

func TestRepairsStopAfterThreeAMinute(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		for range 10 {
			b.breakRoute(agency{n: 0})
			b.look.poke()
			b.wait(2 * time.Second)
		}
		if repairs, stops := b.events.count(journal.DriftRepair), b.events.count(journal.DriftStop); repairs != 3 || stops != 1 {
			t.Errorf("%d repairs, %d stops", repairs, stops)
		}
		status, err := b.Status(t.Context())
		if err != nil || len(status.Drift) == 0 || !slices.ContainsFunc(status.Alarms, func(s string) bool { return strings.Contains(s, "repairs stopped") }) {
			t.Errorf("status: %+v, %v", status, err)
		}
		b.wait(time.Hour) // it does not begin again by itself
		if repairs := b.events.count(journal.DriftRepair); repairs != 3 {
			t.Errorf("%d repairs", repairs)
		}
		if _, err := b.Hold(t.Context(), 0, journal.Actor{}); err != nil {
			t.Fatal(err)
		}
		b.wait(lookEvery)
		b.mustBeAsAsked()
		if status, err := b.Status(t.Context()); err != nil || len(status.Alarms) != 0 || len(status.Drift) != 0 {
			t.Errorf("status: %+v, %v", status, err)
		}
	})
}

// Repairs that have stopped leave routes as they are, and never the filter: without it everything would pass.
func TestFilterIsRepairedAfterRepairsStopped(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		for range 5 {
			b.breakRoute(agency{n: 0})
			b.look.poke()
			b.wait(2 * time.Second)
		}
		if stops := b.events.count(journal.DriftStop); stops != 1 {
			t.Fatalf("%d stops", stops)
		}
		for range 10 {
			b.filter.Vanish()
			b.wait(2 * lookEvery)
			if _, present := b.filter.Table(); !present {
				t.Fatal("the table stays away")
			}
		}
		status, err := b.Status(t.Context())
		if err != nil || len(status.Drift) == 0 {
			t.Errorf("the route was repaired too: %+v, %v", status, err)
		}
	})
}

func TestHoldOutlivesTheDaemon(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		if _, err := b.Hold(t.Context(), 10*time.Minute, journal.Actor{}); err != nil {
			t.Fatal(err)
		}
		b.breakRoute(agency{n: 0})
		b.wait(time.Minute)
		b.onStep(func(step string) { t.Errorf("a step on the host: %s", step) })
		b.kill()
		b.run()
		b.wait(8 * time.Minute)
		if status, err := b.Status(t.Context()); err != nil || status.HoldUntil == nil || len(status.Drift) == 0 {
			t.Errorf("status: %+v, %v", status, err)
		}
		b.onStep(nil)
		b.wait(2 * time.Minute)
		b.mustBeAsAsked()
	})
}

func TestSlowDriftIsRepairedForEver(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		for range 10 {
			b.breakRoute(agency{n: 0})
			b.wait(repairsIn/repairsMost + 2*time.Second)
			b.mustBeAsAsked()
		}
		if stops := b.events.count(journal.DriftStop); stops != 0 {
			t.Errorf("%d stops", stops)
		}
	})
}

func TestHoldReportsAndDoesNotRepair(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		until, err := b.Hold(t.Context(), 10*time.Minute, journal.Actor{User: "anna"})
		if err != nil || time.Until(until) != 10*time.Minute {
			t.Fatalf("until %s, %v", until, err)
		}
		b.breakRoute(agency{n: 0})
		b.onStep(func(step string) { t.Errorf("a step on the host: %s", step) })
		b.wait(9 * time.Minute)
		status, err := b.Status(t.Context())
		if err != nil || len(status.Drift) == 0 || status.HoldUntil == nil || b.events.count(journal.DriftFind) != 1 {
			t.Errorf("status: %+v, %v, events %v", status, err, b.events.types())
		}
		b.onStep(nil)
		b.wait(2 * time.Minute)
		b.mustBeAsAsked()
		if b.events.count(journal.HoldEnd) != 1 || b.events.count(journal.DriftRepair) != 1 {
			t.Errorf("events: %v", b.events.types())
		}
	})
}

func TestDriftIsOnlyReportedWhereTheSiteSaysSo(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		b.mustApply(request(strings.Replace(site, "  lab: true", "  lab: true\n  drift: report", 1)))
		b.mustConfirm()
		b.breakRoute(agency{n: 0})
		b.wait(5 * time.Minute)
		if b.events.count(journal.DriftFind) != 1 || b.events.count(journal.DriftRepair) != 0 {
			t.Errorf("events: %v", b.events.types())
		}
		// An apply of what is in force repairs it by hand, as a step that the plan shows.
		plan, err := b.Plan(t.Context(), request(agency{n: 0}.yaml()))
		if err != nil || len(plan.Changes) != 0 || len(plan.Steps) != 1 {
			t.Errorf("plan: %+v, %v", plan, err)
		}
		if result := b.mustApply(request(agency{n: 0}.yaml())); result.Revision != 2 {
			t.Errorf("a repair made a revision: %+v", result)
		}
		b.mustBeAsAsked()
	})
}

// One bad peer hurts only itself: whatever its error, the others are not touched, it is shown, tried again, and gone when its cause is.
func TestOneBadPeerHurtsOnlyItself(t *testing.T) {
	refusal := errors.New("key refused")
	for name, test := range map[string]struct {
		bad         agency
		begin, mend func(b *box)
		says        string
		made        bool // the peer is there all the same, but for its endpoint
	}{
		"name does not resolve": {bad: agency{endpoint: "a.example"}, says: "no such host", made: true,
			mend: func(b *box) { b.names.Store("a.example", "198.18.0.5") }},
		"name resolves to another": {bad: agency{endpoint: "a.example"}, says: "not to the Peer's publicIP", made: true,
			begin: func(b *box) { b.names.Store("a.example", "192.0.2.66") },
			mend:  func(b *box) { b.names.Store("a.example", "198.18.0.5") }},
		"key refused": {bad: agency{}, says: "key refused",
			begin: func(b *box) { b.tunnels.Refuse(agency{n: 5}.publicKey(), refusal) },
			mend:  func(b *box) { b.tunnels.Refuse(agency{n: 5}.publicKey(), nil) }},
		"no preshared key": {bad: agency{psk: "agency-5"}, says: "not on this box",
			mend: func(b *box) {
				if err := b.NewSecret(b.t.Context(), "agency-5", journal.Actor{}); err != nil {
					b.t.Error(err)
				}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *box) {
				test.bad.n = 5
				if test.begin != nil {
					test.begin(b)
				}
				others := func(step string) {
					if strings.Contains(step, "agency-0") || strings.Contains(step, "agency-1") || strings.Contains(step, "device") || strings.Contains(step, "load") {
						t.Errorf("others were touched: %s", step)
					}
				}
				b.onStep(others)
				result := b.mustApply(request(test.bad.yaml() + agency{n: 6}.yaml()))
				if result.Revision != 2 || len(result.Failed) != 1 || result.Failed[0].Tunnel != "agency-5" || !strings.Contains(result.Failed[0].Error, test.says) || result.Failed[0].Hint == "" && name != "key refused" {
					t.Errorf("failed: %+v", result.Failed)
				}
				have := []agency{{n: 0}, {n: 1}, {n: 6}}
				if test.made {
					have = append(have, test.bad)
				}
				b.mustHavePeers(have...)
				b.wait(time.Minute)
				status, err := b.Tunnel(t.Context(), "agency-5")
				if err != nil || status.State != "failed" || status.NextRetry == nil || !strings.Contains(status.Reason, test.says) {
					t.Errorf("status: %+v, %v", status, err)
				}
				if b.events.count(journal.TunnelFail) != 1 || b.events.count(journal.DriftFind) != 0 {
					t.Errorf("events: %v", b.events.types())
				}
				test.mend(b)
				b.wait(2 * lastRetry)
				b.mustBe(2, Confirmed, agency{n: 0}, agency{n: 1}, agency{n: 6}, test.bad)
				if status, err := b.Tunnel(t.Context(), "agency-5"); err != nil || status.State == "failed" || b.events.count(journal.TunnelRecover) != 1 {
					t.Errorf("status: %+v, %v", status, err)
				}
				b.onStep(nil)
			})
		})
	}
}

func TestBackOffIsBoundedAndJittered(t *testing.T) {
	for attempts := range 100 {
		seen := map[time.Duration]bool{}
		for range 20 {
			d := backOff(attempts)
			if d < firstRetry/2 || d > lastRetry+lastRetry/4 {
				t.Fatalf("attempt %d: %s", attempts, d)
			}
			seen[d] = true
		}
		if len(seen) < 2 {
			t.Errorf("attempt %d is not jittered", attempts)
		}
	}
}

func TestMissingOwnAddressIsSaidAndMended(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		b.network.DeleteLink("ext0")
		b.network.AddLink("ext0")
		b.wait(2 * lookEvery)
		status, err := b.Status(t.Context())
		if err != nil || !strings.Contains(fmt.Sprint(status.Failed), "203.0.113.10") {
			t.Errorf("failed: %+v, %v", status.Failed, err)
		}
		if n := b.events.count(journal.DriftStop); n != 0 {
			t.Errorf("events: %v", b.events.types())
		}
		b.network.DeleteLink("ext0")
		b.network.AddLink("ext0", "203.0.113.10/24")
		b.wait(2 * lastRetry)
		b.mustBe(1, Confirmed, agency{n: 0}, agency{n: 1})
		if status, err = b.Status(t.Context()); err != nil || len(status.Failed) != 0 {
			t.Errorf("failed: %+v, %v", status.Failed, err)
		}
	})
}

// A private key that is there and cannot be read is said by its device's tunnels; what runs goes on with the key it has, and changes
// of the rest are made.
func TestUnreadableKeyHurtsNobody(t *testing.T) {
	b := established(t, 2)
	files, err := filepath.Glob(filepath.Join(b.dir, "keys", "wireguard", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("private keys: %v, %v", files, err)
	}
	if err := os.Chmod(files[0], 0o644); err != nil {
		t.Fatal(err)
	}
	b.kill()
	b.onStep(func(step string) { t.Errorf("a step on the host: %s", step) })
	b.start()
	b.onStep(nil)
	status, err := b.Status(t.Context())
	if err != nil || len(status.Failed) != 2 || !strings.Contains(status.Failed[0].Error, files[0]) || !strings.Contains(status.Failed[0].Error, "0600") {
		t.Errorf("failed: %+v, %v", status.Failed, err)
	}
	b.mustApply(request(agency{n: 9}.yaml()))
	b.mustHavePeers(agency{n: 0}, agency{n: 1}, agency{n: 9})
	if err := os.Chmod(files[0], 0o600); err != nil {
		t.Fatal(err)
	}
	b.mustApply(request(agency{n: 8}.yaml()))
	b.mustHavePeers(agency{n: 0}, agency{n: 1}, agency{n: 8}, agency{n: 9})
	b.mustBeAsAsked()
	if status, err = b.Status(t.Context()); err != nil || slices.ContainsFunc(status.Failed, func(f Failed) bool { return f.Tunnel == "agency-8" }) {
		t.Errorf("failed: %+v, %v", status.Failed, err)
	}
}

// A newer program judges an old revision otherwise, or a file was damaged: the valid rest comes up and the invalid is reported.
func TestInvalidDocumentsAreLeftOutAtStart(t *testing.T) {
	b := established(t, 3)
	b.kill()
	s := mustOpenStore(t, b.dir+"/revisions", realDisk{})
	bad := agency{n: 1, prefix: "172.16.0.0/28"}.yaml() // outside its zone
	documents := strings.Split(bad, "---\n")
	if err := commit(s, Change{Verb: verbChange, Kind: "Tunnel", Name: "agency-1", After: documents[2]}); err != nil {
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	b.start()
	status, err := b.Status(t.Context())
	if err != nil || len(status.Problems) == 0 || !strings.Contains(status.Problems[0], "agency-1") {
		t.Errorf("problems: %q, %v", status.Problems, err)
	}
	b.mustBe(2, Confirmed, agency{n: 0}, agency{n: 2})
	if b.events.count(journal.DocumentsReject) != 1 {
		t.Errorf("events: %v", b.events.types())
	}
}

// The filter cannot be loaded: the revision is refused, and the box is as before.
func TestApplyThatCannotLoadTheFilterGoesBack(t *testing.T) {
	b := established(t, 2)
	b.filter.Break(errors.New("nft says no"))
	if _, err := b.Apply(t.Context(), request(agency{n: 2}.yaml())); err == nil || !strings.Contains(err.Error(), "nft says no") {
		t.Errorf("apply: %v", err)
	}
	b.filter.Break(nil)
	if err := b.restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.mustBe(1, Confirmed, agency{n: 0}, agency{n: 1})
	if b.events.count(journal.ApplyFail) != 1 {
		t.Errorf("events: %v", b.events.types())
	}
	b.mustApply(request(agency{n: 2}.yaml()))
	b.mustBe(3, Confirmed, agency{n: 0}, agency{n: 1}, agency{n: 2})
}

func TestJournalThatCannotBeWrittenIsAnAlarmUntilItCan(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		alarms := func() int {
			status, err := b.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return len(status.Alarms)
		}
		b.wait(lookEvery)
		b.events.answer(errors.New("no space left on device"))
		b.breakRoute(agency{n: 0})
		b.wait(2 * lookEvery)
		b.mustBeAsAsked() // repaired all the same
		if alarms() != 1 {
			t.Errorf("%d alarms while the journal cannot be written", alarms())
		}
		b.events.answer(nil)
		b.wait(2 * lookEvery)
		if alarms() != 0 || b.events.count(journal.DriftRepair) != 1 {
			t.Errorf("%d alarms after it can be; events %v", alarms(), b.events.types())
		}
	})
}
