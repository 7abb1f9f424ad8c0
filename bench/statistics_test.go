package main

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 5}, 5}, {[]float64{1, 2, 3, 100}, 2.5}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
	if !math.IsNaN(median(nil)) {
		t.Error("no values have a median")
	}
}

// Ranks from the usual tables of the sign test: n=40 gives the 14th and the 27th, n=10 the 2nd and the 9th, n=6 the 1st and the 6th.
func TestIntervalRanks(t *testing.T) {
	for _, c := range []struct{ n, low, high int }{{40, 14, 27}, {10, 2, 9}, {6, 1, 6}, {20, 6, 15}, {15, 4, 12}} {
		values := make([]float64, c.n)
		for i := range values {
			values[i] = float64(i + 1)
		}
		if low, high := interval(values); int(low) != c.low || int(high) != c.high {
			t.Errorf("interval of 1..%d is %v..%v, want %d..%d", c.n, low, high, c.low, c.high)
		}
	}
	if low, high := interval([]float64{1, 2, 3, 4, 5}); !math.IsInf(low, -1) || !math.IsInf(high, 1) {
		t.Errorf("five values have the interval %v..%v", low, high)
	}
}

func TestIntervalHoldsTheMedian(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	held, trials := 0, 2000
	for range trials {
		values := make([]float64, 40)
		for i := range values {
			values[i] = random.ExpFloat64()
		}
		if low, high := interval(values); low <= math.Ln2 && math.Ln2 <= high {
			held++
		}
	}
	if share := float64(held) / float64(trials); share < 0.94 {
		t.Errorf("the interval held the true median in %.3f of the trials", share)
	}
}
