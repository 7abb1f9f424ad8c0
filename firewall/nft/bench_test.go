package nft_test

import (
	"testing"

	"shekara/firewall/firewalltest"
)

func BenchmarkCompile(b *testing.B) { firewalltest.BenchCompile(b) }

func BenchmarkLoader(b *testing.B) { firewalltest.BenchLoader(b, engine()) }
