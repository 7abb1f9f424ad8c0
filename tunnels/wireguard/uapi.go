package wireguard

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"shekara/netctl/secret"
	"shekara/tunnels"
)

// The configuration protocol of userspace devices (https://www.wireguard.com/xplatform/): lines key=value, keys in hex, an empty line
// at the end. We read it ourselves, as one look at 10,000 peers is a megabyte or five.

const (
	maxLine  = 4096
	maxLines = 1 << 24 // of one answer
	maxPeers = 1 << 20 // the kernel's limit; the userspace engine has 1 << 16
)

// refusal is an engine's no to a request that it understood. Anything else that goes wrong is not the request's fault.
type refusal struct{ errno int64 } // zero: what it wraps says why

func (r refusal) Error() string {
	if r.errno == 0 {
		return "engine refuses"
	}
	names := map[int64]string{5: "input/output error", 22: "invalid value", 71: "protocol error", 98: "UDP port is in use"} // errno(3) on Linux
	number := max(r.errno, -r.errno)
	if name, ok := names[number]; ok {
		return fmt.Sprintf("engine refuses: %s (errno %d)", name, number)
	}
	return fmt.Sprintf("engine refuses: errno %d", number)
}

// readState reads the answer to get=1.
func readState(from io.Reader) (tunnels.DeviceState, error) {
	state := tunnels.DeviceState{Engine: tunnels.Userspace, Peers: map[tunnels.PublicKey]tunnels.PeerState{}}
	r := stateReader{device: &state}
	lines := bufio.NewReaderSize(from, 64<<10)
	for range maxLines {
		line, err := lines.ReadSlice('\n')
		if err == io.EOF {
			err = io.ErrUnexpectedEOF // an answer ends with an empty line
		}
		if err == nil && len(line) > maxLine {
			err = bufio.ErrBufferFull
		}
		if err != nil {
			return tunnels.DeviceState{}, fmt.Errorf("read device: %w", err)
		}
		line = line[:len(line)-1]
		if len(line) == 0 {
			return r.finish()
		}
		key, value, ok := bytes.Cut(line, []byte{'='})
		if !ok {
			return tunnels.DeviceState{}, errors.New("read device: a line without '='") // not quoted: it may hold a key
		}
		if err := r.take(string(key), value); err != nil {
			return tunnels.DeviceState{}, fmt.Errorf("read device: %s: %w", key[:min(len(key), 40)], err)
		}
	}
	return tunnels.DeviceState{}, fmt.Errorf("read device: more than %d lines", maxLines)
}

// stateReader collects lines. peer is the one that the lines now speak of.
type stateReader struct {
	device         *tunnels.DeviceState
	peer           *tunnels.PeerState
	seconds, nanos int64
	errnoSeen      bool
	errno          int64
	current        tunnels.PeerState
}

func (r *stateReader) take(key string, value []byte) (err error) {
	switch key {
	case "errno":
		r.errnoSeen = true
		r.errno, err = strconv.ParseInt(string(value), 10, 64)
		return err
	case "public_key":
		r.endPeer()
		if len(r.device.Peers) >= maxPeers {
			return fmt.Errorf("more than %d peers", maxPeers)
		}
		raw, err := readKey(value)
		r.current = tunnels.PeerState{PublicKey: raw}
		r.peer = &r.current
		return err
	}
	if r.peer == nil {
		return r.takeDevice(key, value)
	}
	return r.takePeer(key, value)
}

func (r *stateReader) takeDevice(key string, value []byte) error {
	switch key {
	case "private_key":
		raw, err := readKey(value)
		if err != nil {
			return err
		}
		r.device.PrivateKey = keyOrNone(raw)
		clear(raw[:])
		r.device.PublicKey, err = tunnels.PublicKeyOf(r.device.PrivateKey)
		return err
	case "listen_port":
		n, err := strconv.ParseUint(string(value), 10, 16)
		r.device.Port = uint16(n)
		return err
	case "fwmark":
		n, err := strconv.ParseUint(string(value), 10, 32)
		r.device.Mark = uint32(n)
		return err
	}
	return nil // a word of a newer version
}

func (r *stateReader) takePeer(key string, value []byte) error {
	var err error
	switch key {
	case "preshared_key":
		var raw [32]byte
		if raw, err = readKey(value); err == nil {
			r.peer.PresharedKey = keyOrNone(raw)
		}
		clear(raw[:])
	case "endpoint":
		r.peer.Endpoint, err = netip.ParseAddrPort(string(value))
	case "last_handshake_time_sec":
		r.seconds, err = strconv.ParseInt(string(value), 10, 64)
	case "last_handshake_time_nsec":
		r.nanos, err = strconv.ParseInt(string(value), 10, 64)
	case "tx_bytes":
		r.peer.SentBytes, err = strconv.ParseUint(string(value), 10, 64)
	case "rx_bytes":
		r.peer.ReceivedBytes, err = strconv.ParseUint(string(value), 10, 64)
	case "persistent_keepalive_interval":
		var n uint64
		n, err = strconv.ParseUint(string(value), 10, 16)
		r.peer.Keepalive = time.Duration(n) * time.Second
	case "allowed_ip":
		var p netip.Prefix
		p, err = netip.ParsePrefix(string(value))
		r.peer.AllowedIPs = append(r.peer.AllowedIPs, p)
	}
	return err
}

func (r *stateReader) endPeer() {
	if r.peer == nil {
		return
	}
	if r.seconds != 0 || r.nanos != 0 {
		r.peer.LastHandshake = time.Unix(r.seconds, r.nanos)
	}
	slices.SortFunc(r.peer.AllowedIPs, netip.Prefix.Compare)
	r.device.Peers[r.peer.PublicKey] = *r.peer
	r.peer, r.seconds, r.nanos = nil, 0, 0
}

func (r *stateReader) finish() (tunnels.DeviceState, error) {
	if !r.errnoSeen {
		return tunnels.DeviceState{}, errors.New("read device: the answer has no errno")
	}
	if r.errno != 0 {
		return tunnels.DeviceState{}, fmt.Errorf("read device: %w", refusal{r.errno})
	}
	r.endPeer()
	return *r.device, nil
}

func readKey(text []byte) (key [32]byte, err error) {
	if len(text) != hex.EncodedLen(len(key)) {
		return key, fmt.Errorf("key has %d characters", len(text))
	}
	if _, err = hex.Decode(key[:], text); err != nil {
		return key, errors.New("key is not hexadecimal") // the cause would show a character of it
	}
	return key, nil
}

// keyOrNone: on this protocol a key of zeros is none.
func keyOrNone(raw [32]byte) secret.Key {
	if raw == ([32]byte{}) {
		return secret.Key{}
	}
	key, _ := secret.NewKey(raw[:]) // cannot fail: 32 bytes
	return key
}

// request is a set=1 in the making. It holds keys: wipe it after use.
type request struct{ text []byte }

func newRequest() *request { return &request{append(make([]byte, 0, 4096), "set=1\n"...)} }

func (r *request) line(key, value string) {
	r.text = append(r.text, key...)
	r.text = append(r.text, '=')
	r.text = append(r.text, value...)
	r.text = append(r.text, '\n')
}

func (r *request) key(name string, key [32]byte) {
	r.grow(len(name) + 2 + hex.EncodedLen(len(key)))
	r.text = append(r.text, name...)
	r.text = append(r.text, '=')
	r.text = hex.AppendEncode(r.text, key[:])
	r.text = append(r.text, '\n')
}

// grow makes room without leaving a copy of keys behind.
func (r *request) grow(n int) {
	if cap(r.text)-len(r.text) >= n {
		return
	}
	larger := append(make([]byte, 0, 2*cap(r.text)+n), r.text...)
	r.wipe()
	r.text = larger
}

func (r *request) wipe() { clear(r.text[:cap(r.text)]) }

// device sets what a device has besides its link and its peers.
func (r *request) device(d tunnels.DeviceSpec) {
	r.key("private_key", d.PrivateKey.Reveal())
	// The mark first: no packet leaves from the new port without it.
	r.line("fwmark", strconv.FormatUint(uint64(d.Mark), 10))
	r.line("listen_port", strconv.Itoa(int(d.Port)))
}

// peer writes one step. Zero values are written too: they remove what is there.
func (r *request) peer(op tunnels.Op) {
	r.grow(512 + 64*len(op.Peer.AllowedIPs))
	r.key("public_key", op.Peer.PublicKey)
	if op.Kind == tunnels.PeerDelete {
		r.line("remove", "true")
		return
	}
	if op.Kind == tunnels.PeerUpdate {
		r.line("update_only", "true") // one that was removed meanwhile is not made again half
	}
	var presharedKey [32]byte
	if !op.Peer.PresharedKey.IsZero() {
		presharedKey = op.Peer.PresharedKey.Reveal()
	}
	r.key("preshared_key", presharedKey)
	if e := op.Peer.Endpoint; e.IsValid() && (op.Kind == tunnels.PeerAdd || e != op.Was.Endpoint) {
		r.line("endpoint", e.String())
	}
	r.line("persistent_keepalive_interval", strconv.FormatInt(int64(op.Peer.Keepalive/time.Second), 10))
	added, removed := op.Peer.AllowedIPs, []netip.Prefix(nil)
	if op.Kind == tunnels.PeerUpdate {
		added, removed = tunnels.ComparePrefixes(op.Peer.AllowedIPs, op.Was.AllowedIPs)
	} else {
		r.line("replace_allowed_ips", "true")
	}
	for _, p := range added {
		r.line("allowed_ip", p.String())
	}
	for _, p := range removed {
		r.line("allowed_ip", "-"+p.String()) // does nothing if another peer has taken it already
	}
}
