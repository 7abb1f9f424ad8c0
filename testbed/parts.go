package testbed

// parts are the parts of scenarios that are written in Go, by name.
func parts() map[string]partFunction {
	return map[string]partFunction{
		"forge":        forged,
		"isolation":    isolation,
		"noticed":      noticed,
		"revert-delay": revertDelay,
		"scale":        scale,
		"tamper":       tampered,
	}
}
