package tunnels

import (
	"fmt"
	"strings"
)

// String says what the step does, in words without secrets: "update peer agency-a in sk-agencies (keepalive 0s -> 25s)".
func (o Op) String() string {
	var s string
	switch o.Kind {
	case DeviceAdd, DeviceUpdate, DeviceDelete:
		s = fmt.Sprintf("%s %s", o.Kind, o.Device.Name)
	default:
		s = fmt.Sprintf("%s %s in %s", o.Kind, o.peerName(), o.Device.Name)
	}
	if len(o.Changes) > 0 {
		s += " (" + strings.Join(o.Changes, ", ") + ")"
	}
	return s
}

func (o Op) peerName() string {
	if o.Peer.Tunnel != "" {
		return o.Peer.Tunnel
	}
	return o.Peer.PublicKey.String()
}

func (f Failure) Error() string { return fmt.Sprintf("%s: %v", f.Op, f.Err) }

func (f Failure) Unwrap() error { return f.Err }
