package server

import (
	"errors"

	"shekara/timesync/ntp"
	"shekara/timesync/nts"
)

// finding is how a request is authenticated.
type finding uint8

const (
	byNothing finding = iota // and need not be
	byKey
	byNTS
	// From refused on it gets no time.
	refused       // it has nothing that it must have, or something that is no request
	wrongCode     // by a key that we do not have, or that is not the client's, or not of this packet
	unknownCookie // of NTS
)

// kiss is what the client is told of a refusal; 0: nothing.
func (f finding) kiss() uint32 {
	switch f {
	case wrongCode:
		return ntp.KissCryp
	case unknownCookie:
		return ntp.KissNTSN
	}
	return 0
}

// authenticate finds out what authenticates the packet at hand, by what its client must have. w.key, or w.exchange, is that by which its answer is authenticated too.
func (w *worker) authenticate(request []byte, r *registration) finding {
	p := &w.packet
	if len(p.Extensions) > 0 && w.server.options.NTS != nil {
		var err error
		w.exchange, err = w.server.options.NTS.Open(request)
		switch {
		case err == nil && (r.nts || r.key == 0):
			return byNTS
		case errors.Is(err, nts.ErrCookie):
			return unknownCookie
		case !errors.Is(err, nts.ErrNone):
			return refused
		}
	}
	switch {
	case r.nts || r.key != 0 && p.MAC == nil:
		return refused
	case p.MAC == nil:
		return byNothing
	}
	w.key = w.policy.keys.Usable(p.KeyID())
	if w.key == nil || r.key != 0 && w.key.ID != r.key || !w.key.Verify(request[:len(request)-len(p.MAC)], p.MAC) {
		return wrongCode
	}
	return byKey
}

// seal authenticates an answer, its header, as its request was. It becomes no longer than that: the code has the length of the request's, and Exchange.Seal sees to it.
func (w *worker) seal(header []byte, found finding) []byte {
	switch found {
	case byKey:
		return w.key.AppendMAC(header)
	case byNTS:
		return w.exchange.Seal(header)
	case wrongCode:
		return append(header, make([]byte, ntp.CryptoNAK)...)
	case unknownCookie:
		return w.exchange.Echo(header)
	}
	return header
}
