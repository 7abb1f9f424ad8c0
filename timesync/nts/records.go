package nts

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Records of key establishment (RFC 8915 section 4.1).
const (
	recordEnd      = 0
	recordProtocol = 1
	recordError    = 2
	recordWarning  = 3
	recordAEAD     = 4
	recordCookie   = 5
	recordServer   = 6
	recordPort     = 7

	critical  = 0x8000
	headerLen = 4
)

const (
	protocolNTP = 0  // version 4 (RFC 8915 section 7.7)
	aeadSIV     = 15 // AES-SIV-CMAC-256 (RFC 5297)
)

// fault is the code of an error record (RFC 8915 section 4.1.3).
type fault uint16

const (
	unknownCritical fault = 0
	badRequest      fault = 1
	internalError   fault = 2
)

func (f fault) Error() string {
	switch f {
	case unknownCritical:
		return "unrecognized critical record"
	case badRequest:
		return "bad request"
	case internalError:
		return "internal server error"
	}
	return fmt.Sprintf("error %d", uint16(f))
}

// errPartial is of a message of which more must come.
var errPartial = errors.New("message without its end")

type record struct {
	kind     uint16
	critical bool
	body     []byte
}

// nextRecord takes the first record off a message. The error is errPartial.
func nextRecord(message []byte) (r record, rest []byte, err error) {
	if len(message) < headerLen {
		return record{}, nil, errPartial
	}
	kind, end := binary.BigEndian.Uint16(message), headerLen+int(binary.BigEndian.Uint16(message[2:]))
	if end > len(message) {
		return record{}, nil, errPartial
	}
	return record{kind &^ critical, kind&critical != 0, message[headerLen:end]}, message[end:], nil
}

func appendRecord(message []byte, kind uint16, body ...byte) []byte {
	message = binary.BigEndian.AppendUint16(message, kind)
	message = binary.BigEndian.AppendUint16(message, uint16(len(body)))
	return append(message, body...)
}

// offer is what a client proposes.
type offer struct {
	protocols, aeads bool // there was such a record
	ntp, siv         bool // with what we speak in it
}

// parseOffer reads a client's message. The error is errPartial, or a fault.
func parseOffer(message []byte) (offer, error) {
	var o offer
	for {
		r, rest, err := nextRecord(message)
		if err != nil {
			return offer{}, err
		}
		message = rest
		switch r.kind {
		case recordEnd:
			// What follows the end is not looked at. With NTP, exactly one AEAD record must be there (section 4.1.5).
			if len(r.body) != 0 || !r.critical || !o.protocols || o.ntp && !o.aeads {
				return offer{}, badRequest
			}
			return o, nil
		case recordProtocol:
			if o.protocols || !r.critical || len(r.body) == 0 || len(r.body)%2 != 0 {
				return offer{}, badRequest
			}
			o.protocols, o.ntp = true, names(r.body, protocolNTP)
		case recordAEAD:
			if o.aeads || len(r.body) == 0 || len(r.body)%2 != 0 {
				return offer{}, badRequest
			}
			o.aeads, o.siv = true, names(r.body, aeadSIV)
		case recordServer: // a wish, which need not be granted (section 4.1.7)
			if len(r.body) == 0 {
				return offer{}, badRequest
			}
		case recordPort:
			if len(r.body) != 2 {
				return offer{}, badRequest
			}
		case recordError, recordWarning, recordCookie: // only servers send these
			return offer{}, badRequest
		default:
			if r.critical {
				return offer{}, unknownCritical
			}
		}
	}
}

func names(list []byte, number uint16) bool {
	for ; len(list) >= 2; list = list[2:] {
		if binary.BigEndian.Uint16(list) == number {
			return true
		}
	}
	return false
}

// agreement is what a server answers.
type agreement struct {
	server  string // where NTP is served; "": where keys are established
	port    uint16
	cookies [][]byte // of the message
}

// accept is the answer to an offer. Cookies are for an offer that has both NTP and the AEAD; else the answer names what is not there by leaving it out.
func accept(o offer, port uint16, cookies [][]byte) []byte {
	if !o.ntp {
		return appendRecord(appendRecord(nil, critical|recordProtocol), critical|recordEnd)
	}
	message := appendRecord(nil, critical|recordProtocol, 0, protocolNTP)
	if !o.siv {
		return appendRecord(appendRecord(message, critical|recordAEAD), critical|recordEnd)
	}
	message = appendRecord(message, critical|recordAEAD, 0, aeadSIV)
	if port != 0 {
		message = appendRecord(message, critical|recordPort, byte(port>>8), byte(port))
	}
	for _, cookie := range cookies {
		message = appendRecord(message, recordCookie, cookie...)
	}
	return appendRecord(message, critical|recordEnd)
}

func refuse(f fault) []byte {
	return appendRecord(appendRecord(nil, critical|recordError, byte(f>>8), byte(f)), critical|recordEnd)
}

// parseAgreement reads a server's message. The error is errPartial until it is whole.
func parseAgreement(message []byte) (agreement, error) {
	var a agreement
	var protocol, aead bool
	for {
		r, rest, err := nextRecord(message)
		if err != nil {
			return agreement{}, err
		}
		message = rest
		switch r.kind {
		case recordEnd:
			if !protocol || !aead || len(a.cookies) == 0 {
				return agreement{}, errors.New("the server has not NTPv4 with AES-SIV-CMAC-256, or gives no cookies")
			}
			return a, nil
		case recordProtocol:
			protocol = names(r.body, protocolNTP)
		case recordAEAD:
			aead = names(r.body, aeadSIV)
		case recordError:
			if len(r.body) != 2 {
				return agreement{}, badRequest
			}
			return agreement{}, fmt.Errorf("the server says: %w", fault(binary.BigEndian.Uint16(r.body)))
		case recordWarning:
			return agreement{}, fmt.Errorf("the server warns: %x", r.body) // there is none yet that may be passed over (section 4.1.4)
		case recordCookie:
			if len(r.body) == 0 || len(r.body) > maxCookieLen {
				return agreement{}, fmt.Errorf("a cookie has %d bytes, want 1 to %d", len(r.body), maxCookieLen)
			}
			if len(a.cookies) < maxCookies {
				a.cookies = append(a.cookies, r.body)
			}
		case recordServer:
			a.server = string(r.body)
		case recordPort:
			if len(r.body) != 2 {
				return agreement{}, fmt.Errorf("a port has %d bytes, want 2", len(r.body))
			}
			a.port = binary.BigEndian.Uint16(r.body)
		default:
			if r.critical {
				return agreement{}, fmt.Errorf("the server wants record %d understood", r.kind)
			}
		}
	}
}
