# Every target sets itself up on a fresh Debian or Ubuntu with Go. `sudo make demo` and `sudo make test` are all that a newcomer needs.

GO      := $(shell command -v go 2>/dev/null || echo /usr/local/go/bin/go)
VERSION := $(shell git -c safe.directory='*' describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
export GOFLAGS := -buildvcs=false $(GOFLAGS)
export CGO_ENABLED := 0

# What the demo runs on, and what the tests need besides. Debian has one package that keeps the clock: where that is another, chrony takes its place.
DEMO_PACKAGES := chrony iproute2 iputils-ping nftables wireguard-tools openssl rsyslog rsyslog-gnutls
TEST_PACKAGES := $(DEMO_PACKAGES) conntrack e2fsprogs ipset iperf3 iptables nats-server nginx-light prometheus mount procps socat systemd ulogd2 mandoc \
                 util-linux qemu-system-x86 busybox-static cpio kmod xz-utils

# The host may lack only what the virtual machine has: there it is required, so nothing goes unexercised.
export SHEKARA_REQUIRE ?= all,-kernel-wireguard
SKIPS := $(CURDIR)/build/skips.txt

.PHONY: build demo test check unit live scenarios bench fuzz soak generate setup-demo setup-test clean

build:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/shekarad ./cmd/shekara

demo: setup-demo build
	bin/shekara testbed run demo --html build/demo.html --json build/demo.json

test: setup-test check live scenarios
	@echo "Not exercised in this run (features this machine lacks):"; sort -u $(SKIPS) 2>/dev/null || true

check:
	@test -z "$$(gofmt -l $$(git -c safe.directory='*' ls-files '*.go'))" || { gofmt -l .; echo "run gofmt -w on the files above"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	SHEKARA_REQUIRE= $(GO) test -short -timeout 30m ./...

live: build
	@mkdir -p build && : > $(SKIPS)
	SHEKARA_SKIPS=$(SKIPS) $(GO) test -count=1 -timeout 30m -p 2 ./...

SCENARIOS := demo contours leak isolation restart rollback multihome scale drift revoke lockout overlap hiding limits iptables diskfull centre tamper audit time time-attack time-faults
# Once more on edges that lack nft, and so filter with iptables. That engine refuses limits; what is not here does not hang on who filters.
SCENARIOS_WITHOUT_NFT := contours leak revoke lockout overlap hiding drift
scenarios: build
	@set -e; for s in $(SCENARIOS); do bin/shekara testbed run $$s --machines build/vm --html build/$$s.html --json build/$$s.json; done
	@set -e; for s in $(SCENARIOS_WITHOUT_NFT); do \
	  bin/shekara testbed run $$s --without nft --html build/$$s-iptables.html --json build/$$s-iptables.json; done

# The area journal is measured beside NATS, whose server Debian has too old to sync always, and beside rsyslog.
bench: setup-test build
	$(if $(filter journal,$(AREA)),GOBIN=$(CURDIR)/build $(GO) install github.com/nats-io/nats-server/v2@v2.15.2)
	$(GO) run ./bench $(if $(AREA),-area $(AREA))

FOR ?= 1m
fuzz:
	@set -e; for package in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  for target in $$(grep -rhoE '^func Fuzz[A-Za-z0-9_]+' $$package/*_test.go | sed 's/func //'); do \
	    echo "fuzz $$package $$target for $(FOR)"; $(GO) test $$package -run '^$$' -fuzz "^$$target$$" -fuzztime $(FOR); done; done
	$(GO) test -count=1 -timeout 0 -run '^TestContract$$/documents' ./firewall/nft -documents 100
	$(GO) test -count=1 -timeout 0 -run '^TestContract$$/legacy/documents' ./firewall/iptables -documents 100

# The drills of make test with large figures: hours. SOAK=10 makes it ten times as long.
# 500 sets of documents and more than 20,000 packets, for each engine, that oracle, Explain, kernel and proof agree on; 10,000 replacements of the filter
# under traffic in each address family; a million records to a centre that is killed meanwhile; daemons killed 200 times, and everything that may leak killed 20 times over.
SOAK ?= 1
soak: setup-test build
	$(GO) test -count=1 -timeout 0 -run '^TestContract$$/documents' ./firewall/nft -documents $$((500 * $(SOAK))) -v
	$(GO) test -count=1 -timeout 0 -run '^TestContract$$/(nft|legacy)/documents' ./firewall/iptables -documents $$((500 * $(SOAK))) -v
	$(GO) test -count=$$((50 * $(SOAK))) -timeout 0 -run '^TestContract$$/replaced' ./firewall/nft
	SHEKARA_KILLS=$$((500 * $(SOAK))) $(GO) test -count=1 -timeout 0 -run '^TestKilledWriterLosesNothing$$' ./journal
	$(GO) test -count=1 -timeout 0 -run '^TestRsyslogHasEveryRecord$$' ./journal/export -records $$((1000000 * $(SOAK)))
	@set -e; for n in $$(seq $$((50 * $(SOAK)))); do echo "restart $$n"; bin/shekara testbed run restart --json build/restart.json >build/restart.txt || { cat build/restart.txt; exit 1; }; done
	@set -e; for n in $$(seq $$((20 * $(SOAK)))); do echo "leak $$n"; bin/shekara testbed run leak --json build/leak.json >build/leak.txt || { cat build/leak.txt; exit 1; }; done

generate:
	$(GO) generate ./...

setup-demo setup-test: setup-%:
	@missing=; for p in $(if $(filter demo,$*),$(DEMO_PACKAGES),$(TEST_PACKAGES)); do \
	  dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'install ok installed' || missing="$$missing $$p"; done; \
	  if [ -n "$$missing" ]; then echo "installing$$missing"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi
	@mkdir -p build
	@$(GO) version >/dev/null || { echo "Go is missing: install it from https://go.dev/dl/ to /usr/local/go"; exit 1; }

clean:
	rm -rf bin build
