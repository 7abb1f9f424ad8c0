package nts

import (
	"crypto/rand"
	"encoding/binary"
	"errors"

	"shekara/timesync/ntp"
)

// Extension fields (RFC 8915 section 7.5).
const (
	fieldUniqueID      = 0x0104
	fieldCookie        = 0x0204
	fieldPlaceholder   = 0x0304
	fieldAuthenticator = 0x0404
)

const (
	minUniqueID  = 32 // bytes (RFC 8915 section 5.3)
	minNonce     = 16 // bytes that a request must leave for the answer's, as a nonce or as padding (RFC 8915 section 5.6)
	maxCookies   = 8  // in an answer (RFC 8915 section 5.7)
	maxEncrypted = 512

	cookieFieldLen = 4 + cookieLen
	sealedLen      = 4 + 4 + nonceLen + tagLen // of an authenticator with nothing encrypted
)

var (
	// ErrNone says that a request does not ask for NTS.
	ErrNone = errors.New("no network time security")
	// ErrBroken is of a request that must be dropped: it is not as RFC 8915 section 5.7 has it, or its authenticator is false.
	ErrBroken = errors.New("network time security: malformed or false")
	// ErrCookie is of a cookie that cannot be opened (any more). The client is told so, unauthenticated: kiss code NTSN, and Exchange.Echo.
	ErrCookie = errors.New("network time security: unknown cookie")
)

// Exchange is an authenticated request, and what its answer needs. It holds on to the request.
type Exchange struct {
	keys     *Keys
	room     int // bytes of the request: no answer is longer
	uniqueID ntp.Field
	with     *association
	cookies  int // asked for
}

// fields are those of NTS in a packet, up to its authenticator.
type fields struct {
	uniqueID, cookie, authenticator ntp.Field
	placeholders                    int // that have room for a cookie like the one brought
	head                            int // bytes of the packet before the authenticator, which it authenticates
}

// Open finds out whether a request, a whole datagram, is authenticated. The error is ErrNone, ErrBroken, or ErrCookie, with which only Echo may be used of the Exchange.
// It allocates only for a client that it does not know (any more).
func (k *Keys) Open(request []byte) (Exchange, error) {
	var f fields
	if err := f.find(request); err != nil {
		return Exchange{}, err
	}
	if len(f.cookie.Value) == 0 {
		return Exchange{}, ErrBroken
	}
	nonce, sealed, ok := authenticator(f.authenticator.Value)
	if !ok || len(sealed)-tagLen > maxEncrypted {
		return Exchange{}, ErrBroken
	}
	x := Exchange{keys: k, room: len(request), uniqueID: f.uniqueID, cookies: min(1+f.placeholders, maxCookies)}
	s := k.scratches.Get().(*scratch)
	defer k.scratches.Put(s)
	if x.with = k.associated(s, f.cookie.Value); x.with == nil {
		return x, ErrCookie
	}
	// What is encrypted in a request would be extension fields that we know none of.
	if !x.with.c2s.open(s, nonce, request[:f.head], s.opened[:len(sealed)-tagLen], sealed) {
		return Exchange{}, ErrBroken
	}
	return x, nil
}

// find walks a packet's extension fields. What follows the authenticator is not authenticated, and not looked at (RFC 8915 section 5.6). The error is ErrNone or ErrBroken.
func (f *fields) find(packet []byte) error {
	if len(packet) < ntp.HeaderLen {
		return ErrNone
	}
	broken, asked := false, false
	for rest := ntp.Extensions(packet[ntp.HeaderLen:]); ; {
		field, after, ok := rest.Next()
		if !ok {
			break
		}
		switch field.Type {
		case fieldUniqueID: // which may be there without the rest
			broken = broken || f.uniqueID.Value != nil || len(field.Value) < minUniqueID
			f.uniqueID = field
		case fieldCookie:
			broken, asked = broken || f.cookie.Value != nil, true
			f.cookie = field
		case fieldPlaceholder:
			asked = true
			if len(field.Value) >= cookieLen {
				f.placeholders++
			}
		case fieldAuthenticator:
			f.authenticator, f.head = field, len(packet)-len(rest)
			if broken || f.uniqueID.Value == nil {
				return ErrBroken
			}
			return nil
		}
		rest = after
	}
	if asked {
		return ErrBroken
	}
	return ErrNone
}

// authenticator takes the value of such a field apart (RFC 8915 section 5.6).
func authenticator(value []byte) (nonce, sealed []byte, ok bool) {
	if len(value) < 4 {
		return nil, nil, false
	}
	nonceLength, sealedLength := int(binary.BigEndian.Uint16(value)), int(binary.BigEndian.Uint16(value[2:]))
	value = value[4:]
	begin := (nonceLength + 3) &^ 3
	end := begin + (sealedLength+3)&^3
	// A short nonce is made up for, so that the answer's has room (and AES-SIV knows no empty one, RFC 5297 section 6).
	if nonceLength == 0 || sealedLength < tagLen || end+max(minNonce-begin, 0) > len(value) {
		return nil, nil, false
	}
	return value[:nonceLength], value[begin : begin+sealedLength], true
}

// Seal authenticates an answer, whose 48 bytes of header are in reply, with as many fresh cookies as the client asked for and has room for. The answer is never longer than the
// request, and nothing is allocated if reply has that capacity.
func (x *Exchange) Seal(reply []byte) []byte {
	reply = x.Echo(reply[:ntp.HeaderLen])
	head := len(reply)
	count := min(x.cookies, (x.room-head-sealedLen)/cookieFieldLen)
	encrypted := count * cookieFieldLen
	s := x.keys.scratches.Get().(*scratch)
	defer x.keys.scratches.Put(s)
	_, _ = rand.Read(s.random[:(count+1)*nonceLen])

	reply = appendAuthenticator(reply, s.random[:nonceLen], encrypted)
	sealed := reply[len(reply)-tagLen-encrypted:]
	for i := range count {
		field := sealed[tagLen+i*cookieFieldLen:]
		binary.BigEndian.PutUint16(field, fieldCookie)
		binary.BigEndian.PutUint16(field[2:], cookieFieldLen)
		x.keys.bake(s, field[4:cookieFieldLen], s.random[(i+1)*nonceLen:(i+2)*nonceLen], x.with.keys)
	}
	x.with.s2c.seal(s, s.random[:nonceLen], reply[:head], sealed)
	return reply
}

// Echo appends to an answer the unique identifier of the request, by which the client knows that it is no other's. It is all that answers an ErrCookie.
func (x *Exchange) Echo(reply []byte) []byte {
	return ntp.AppendField(reply, fieldUniqueID, x.uniqueID.Value, 0)
}

// appendAuthenticator appends such a field with room at its end for the tag and so many encrypted bytes, a multiple of four, which are for the caller to seal.
func appendAuthenticator(packet, nonce []byte, encrypted int) []byte {
	packet = binary.BigEndian.AppendUint16(packet, fieldAuthenticator)
	packet = binary.BigEndian.AppendUint16(packet, uint16(sealedLen+encrypted))
	packet = binary.BigEndian.AppendUint16(packet, nonceLen)
	packet = binary.BigEndian.AppendUint16(packet, uint16(tagLen+encrypted))
	packet = append(packet, nonce...)
	return append(packet, make([]byte, tagLen+encrypted)...)
}
