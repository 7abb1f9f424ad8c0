package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// maxExposure is ten times what systemd-analyze calls the overall exposure level. Two tenths of it are that the daemon may ask the kernel for its clock, which it takes for setting it.
const maxExposure = 27

// installed copies the units with a program that is there for the one that is not installed here.
func installed(t *testing.T) (units []string) {
	t.Helper()
	dir := t.TempDir()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob("*.service")
	if err != nil || len(names) != 5 {
		t.Fatalf("units are %v, %v", names, err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "ExecStart=/usr/sbin/shekarad") {
			t.Errorf("%s does not start /usr/sbin/shekarad", name)
		}
		path := filepath.Join(dir, strings.Replace(name, "@.", "@sk-test.", 1))
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "/usr/sbin/shekarad", program)), 0o644); err != nil {
			t.Fatal(err)
		}
		units = append(units, path)
	}
	return units
}

func TestUnitsVerify(t *testing.T) {
	probetest.Need(t, probe.Tool("systemd-analyze"))
	for _, unit := range installed(t) {
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput()
		if err != nil || len(strings.TrimSpace(string(out))) > 0 {
			t.Errorf("%s: %v\n%s", filepath.Base(unit), err, out)
		}
	}
	// The control: a mistake is found.
	bad := installed(t)[0]
	text, err := os.ReadFile(bad)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad, append(text, "\n[Service]\nWatchdogSeconds=3\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, _ := exec.Command("systemd-analyze", "verify", "--man=no", bad).CombinedOutput(); !strings.Contains(string(out), "WatchdogSeconds") {
		t.Errorf("a mistake is not found: %s", out)
	}
}

// TestTheClockCanBeAskedFor: ProtectClock, and what @privileged holds, would keep adjtimex(2) from who puts on each record how wrong its time may be.
func TestTheClockCanBeAskedFor(t *testing.T) {
	for _, unit := range []string{"shekarad.service", "shekara-time.service"} {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		_, after, found := strings.Cut(string(text), "SystemCallFilter=~@privileged")
		if !found || !strings.Contains(after, "\nSystemCallFilter=adjtimex\n") || strings.Contains(string(text), "\nProtectClock=yes") || strings.Contains(string(text), "CAP_SYS_TIME\n") {
			t.Errorf("%s does not let it ask for the clock, or lets it set it", unit)
		}
	}
}

// TestTimeComesBeforeTunnels: they may need it, and it must not wait for them (docs/time.md).
func TestTimeComesBeforeTunnels(t *testing.T) {
	text, err := os.ReadFile("shekara-time.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"\nBefore=shekarad.service\n", "\nAfter=network-pre.target\n"} {
		if !strings.Contains(string(text), line) {
			t.Errorf("it does not say %q", line)
		}
	}
	for _, line := range []string{"Requires=", "Wants=", "BindsTo=", "PartOf="} {
		if strings.Contains(string(text), line) {
			t.Errorf("it hangs on something: %s", line)
		}
	}
}

// TestTheClockMayBeSetWhereAnOperatorSaysSo: the drop-in for chronyd as the engine is one that systemd takes, adds that one right, and is not in the unit itself.
func TestTheClockMayBeSetWhereAnOperatorSaysSo(t *testing.T) {
	probetest.Need(t, probe.Tool("systemd-analyze"))
	var unit string
	for _, path := range installed(t) {
		if filepath.Base(path) == "shekara-time.service" {
			unit = path
		}
	}
	text, err := os.ReadFile("shekara-time-chrony.conf")
	if err != nil {
		t.Fatal(err)
	}
	verify := func(text string) string {
		program, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(unit+".d", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(unit+".d", "chrony.conf"), []byte(strings.ReplaceAll(text, "/usr/sbin/shekarad", program)), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput()
		if err != nil {
			return string(out) + err.Error()
		}
		return strings.TrimSpace(string(out))
	}
	if out := verify(string(text)); out != "" {
		t.Error(out)
	}
	if out := verify(string(text) + "\nAmbientCapabilitys=CAP_SYS_TIME\n"); !strings.Contains(out, "AmbientCapabilitys") {
		t.Errorf("the control: a mistake in the drop-in is not found: %s", out)
	}
	for _, line := range []string{"\nConflicts=chrony.service ", "\nExecStart=\nExecStart=/usr/sbin/shekarad time --steer\n", "\nCapabilityBoundingSet=CAP_SYS_TIME\n", "\nAmbientCapabilities=CAP_SYS_TIME\n", "\nSystemCallFilter=@clock\n", "\nKillMode=mixed\n"} {
		if !strings.Contains(string(text), line) {
			t.Errorf("it does not say %q", line)
		}
	}
}

func TestUnitsExposure(t *testing.T) {
	probetest.Need(t, probe.Tool("systemd-analyze"))
	level := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)
	for _, unit := range installed(t) {
		out, err := exec.Command("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold="+strconv.Itoa(maxExposure), unit).CombinedOutput()
		found := level.FindSubmatch(out)
		if err != nil || found == nil {
			t.Errorf("%s: %v\n%s", filepath.Base(unit), err, out)
			continue
		}
		t.Logf("%s: exposure %s", filepath.Base(unit), found[1])
	}
}

func TestFilesSayWhatTheyShould(t *testing.T) {
	for file, wants := range map[string][]string{
		"shekarad.service":           {"\nType=notify\n", "\nWatchdogSec=", "\nStateDirectoryMode=0700\n", "\nRuntimeDirectoryPreserve=yes\n", "\nRestart=on-failure\n", "\nCapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW\n", "\nExecReload=/bin/kill -HUP $MAINPID\n"},
		"shekara-dataplane@.service": {"\nExecStart=/usr/sbin/shekarad dataplane %i\n", "\nCapabilityBoundingSet=CAP_NET_ADMIN\n", "\nRestart=no\n"},
		"shekara-close.service":      {"\nExecStart=/usr/sbin/shekarad close\n", "\nBefore=network-pre.target shekarad.service ", "\nAfter=local-fs.target nftables.service systemd-tmpfiles-setup.service\n", "\nWants=modprobe@ip_tables.service modprobe@ip6_tables.service\n", "\nCapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW\n", "\nWantedBy=sysinit.target\n"},
		"shekara-export.service":     {"\nExecStart=/usr/sbin/shekarad export\n", "\nUser=shekara-export\n", "\nCapabilityBoundingSet=\n", "\nInaccessiblePaths=-/var/lib/shekara\n", "\nRestart=always\n"},
		"shekara.sysusers":           {"\ng shekara ", "\ng shekara-view ", "\nu shekara-export ", "\nm shekara-export shekara-view\n"},
		"shekara.tmpfiles":           {"\nd /run/wireguard 0700 root root", "\nf /run/xtables.lock 0600 root root", "\nd /etc/shekara/export 0750 root shekara-export"},
		"apparmor-chronyd":           {"\n/etc/shekara/time/** r,\n", "\n/var/lib/shekara-time/chrony/{,*} rw,\n", "\n@{run}/shekara-time/chrony/{,*} rw,\n"},
		"networkd-shekara.conf":      {"\nManageForeignRoutes=no\n", "\nManageForeignRoutingPolicyRules=no\n"},
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s lacks %q", file, want)
			}
		}
		for _, never := range []string{"ExecStopPost=", "PartOf=", "BindsTo=", "PropagatesStopTo="} { // would cut traffic with the daemon
			if strings.Contains(string(text), "\n"+never) {
				t.Errorf("%s has %s", file, never)
			}
		}
	}
}

func TestSysusersAndTmpfilesAreRead(t *testing.T) {
	probetest.Need(t, probe.Root, probe.Tool("systemd-sysusers"), probe.Tool("systemd-tmpfiles"))
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{{"systemd-sysusers", "shekara.sysusers"}, {"systemd-tmpfiles", "--create", "shekara.tmpfiles"}} {
		file, err := filepath.Abs(argv[len(argv)-1])
		if err != nil {
			t.Fatal(err)
		}
		argv[len(argv)-1] = file
		command := exec.Command(argv[0], append([]string{"--root=" + root}, argv[1:]...)...)
		if out, err := command.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", argv[0], err, out)
		}
	}
	groups, err := os.ReadFile(filepath.Join(root, "etc", "group"))
	if err != nil || !strings.Contains(string(groups), "shekara:") || !strings.Contains(string(groups), "shekara-view:") {
		t.Errorf("groups are %s, %v", groups, err)
	}
	if info, err := os.Stat(filepath.Join(root, "run", "wireguard")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("/run/wireguard: %v, %v", info, err)
	}
}
