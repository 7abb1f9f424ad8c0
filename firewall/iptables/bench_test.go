package iptables_test

import (
	"testing"

	"shekara/firewall/firewalltest"
)

func BenchmarkLoader(b *testing.B) {
	for _, v := range variants() {
		b.Run(string(v), func(b *testing.B) { firewalltest.BenchLoader(b, engine(v)) })
	}
}
