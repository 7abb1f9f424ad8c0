package main

import (
	"math"
	"slices"
)

// median of no values is not a number.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// interval holds the median of what the values were drawn from with a probability of at least 95 %, whatever their distribution: it
// goes from one order statistic to another, as the number of values below the median is binomial. With fewer than six values there
// is no such interval: it is everything.
func interval(values []float64) (low, high float64) {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	// The largest k with P(X < k) <= 2.5 % for X ~ Binomial(n, 1/2); the interval is the k-th to the (n+1-k)-th, counted from 1.
	k, below := 0, 0.0
	for k < n/2 {
		below += math.Exp(logChoose(n, k) - float64(n)*math.Ln2)
		if below > 0.025 {
			break
		}
		k++
	}
	if k == 0 {
		return math.Inf(-1), math.Inf(1)
	}
	return sorted[k-1], sorted[n-k]
}

func logChoose(n, k int) float64 {
	a, _ := math.Lgamma(float64(n + 1))
	b, _ := math.Lgamma(float64(k + 1))
	c, _ := math.Lgamma(float64(n - k + 1))
	return a - b - c
}
