package service

import (
	"time"

	"shekara/timesync"
	"shekara/timesync/server"
)

// Report is what `shekarad time` says of itself: whose word it follows, how good its clock is, and whom it served.
type Report struct {
	Service  string          `json:"service"` // name of the TimeService document that it acts by; "": none yet
	Digest   string          `json:"digest"`  // of the Spec that it acts by
	Engine   timesync.Engine `json:"engine,omitempty"`
	Steers   bool            `json:"steers"` // chronyd, by its word, steers the host's clock; else it is somebody else's affair
	Began    time.Time       `json:"began"`  // when the process did: Requests and Systems are counted since
	Time     time.Time       `json:"time"`   // of the report
	Status   timesync.Status `json:"status"`
	Requests server.Counters `json:"requests"`
	Systems  []server.System `json:"systems,omitempty"` // registered ones, by name
	// Troubles are what it cannot do: an address that is not there, a key file that cannot be read. The rest goes on.
	Troubles []string `json:"troubles,omitempty"`
}
