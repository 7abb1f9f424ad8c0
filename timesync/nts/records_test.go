package nts

import (
	"bytes"
	"errors"
	"testing"
)

// What chronyd 4.3 sends (seen), and beevik/nts v0.3.0.
var (
	chronyOffer = []byte{0x80, 1, 0, 2, 0, 0, 0x80, 4, 0, 2, 0, 15, 0x80, 0, 0, 0}
	beevikOffer = []byte{0x80, 1, 0, 2, 0, 0, 0x80, 4, 0, 4, 0, 30, 0, 15, 4, 0, 0, 0, 0x80, 0, 0, 0}
)

func TestOffers(t *testing.T) {
	good := func(records ...[]byte) []byte { return bytes.Join(records, nil) }
	protocol, aead, end := []byte{0x80, 1, 0, 2, 0, 0}, []byte{0x80, 4, 0, 2, 0, 15}, []byte{0x80, 0, 0, 0}
	for name, c := range map[string]struct {
		message []byte
		want    offer
		err     error
	}{
		"chronyd":              {chronyOffer, offer{true, true, true, true}, nil},
		"beevik/nts":           {beevikOffer, offer{true, true, true, true}, nil},
		"wishes":               {good(protocol, aead, []byte{0, 6, 0, 1, 'a'}, []byte{0, 7, 0, 2, 0, 123}, end), offer{true, true, true, true}, nil},
		"another protocol":     {good([]byte{0x80, 1, 0, 2, 0x80, 0}, end), offer{true, false, false, false}, nil},
		"another AEAD":         {good(protocol, []byte{0, 4, 0, 2, 0, 30}, end), offer{true, true, true, false}, nil},
		"after the end":        {good(protocol, aead, end, []byte{1, 2, 3}), offer{true, true, true, true}, nil},
		"nothing":              {nil, offer{}, errPartial},
		"half a record":        {protocol[:5], offer{}, errPartial},
		"no end":               {good(protocol, aead), offer{}, errPartial},
		"the end alone":        {end, offer{}, badRequest},
		"an end that is long":  {good(protocol, aead, []byte{0x80, 0, 0, 1, 0}), offer{}, badRequest},
		"an end not critical":  {good(protocol, aead, []byte{0, 0, 0, 0}), offer{}, badRequest},
		"no AEAD":              {good(protocol, end), offer{}, badRequest},
		"two protocols":        {good(protocol, protocol, aead, end), offer{}, badRequest},
		"protocol may be left": {good([]byte{0, 1, 0, 2, 0, 0}, aead, end), offer{}, badRequest},
		"two AEADs":            {good(protocol, aead, aead, end), offer{}, badRequest},
		"half an AEAD":         {good(protocol, []byte{0x80, 4, 0, 3, 0, 15, 0}, end), offer{}, badRequest},
		"a cookie":             {good(protocol, aead, []byte{0, 5, 0, 1, 1}, end), offer{}, badRequest},
		"a warning":            {good(protocol, aead, []byte{0x80, 3, 0, 2, 0, 0}, end), offer{}, badRequest},
		"an error":             {good(protocol, aead, []byte{0x80, 2, 0, 2, 0, 0}, end), offer{}, badRequest},
		"half a port":          {good(protocol, aead, []byte{0x80, 7, 0, 1, 0}, end), offer{}, badRequest},
		"a server of no name":  {good(protocol, aead, []byte{0x80, 6, 0, 0}, end), offer{}, badRequest},
		"unknown":              {good(protocol, []byte{0x40, 0, 0, 1, 9}, aead, end), offer{true, true, true, true}, nil},
		"unknown and critical": {good(protocol, []byte{0xc0, 0, 0, 1, 9}, aead, end), offer{}, unknownCritical},
	} {
		if got, err := parseOffer(c.message); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %+v, %v; want %+v, %v", name, got, err, c.want, c.err)
		}
	}
}

func TestAgreements(t *testing.T) {
	a, err := parseAgreement(accept(offer{true, true, true, true}, 1123, [][]byte{{1, 2}, {3}}))
	if err != nil || a.port != 1123 || a.server != "" || len(a.cookies) != 2 || !bytes.Equal(a.cookies[0], []byte{1, 2}) {
		t.Errorf("%+v, %v", a, err)
	}
	for name, message := range map[string][]byte{
		"no protocol":         accept(offer{protocols: true}, 0, nil),
		"no AEAD":             accept(offer{protocols: true, aeads: true, ntp: true}, 0, nil),
		"no cookies":          accept(offer{true, true, true, true}, 0, nil),
		"an error":            refuse(badRequest),
		"a warning":           {0x80, 3, 0, 2, 0, 1},
		"an empty cookie":     {0, 5, 0, 0},
		"unknown, critical":   {0xc0, 0, 0, 0},
		"half a port":         {0x80, 7, 0, 1, 0},
		"an error of no sort": {0x80, 2, 0, 0},
	} {
		if a, err := parseAgreement(message); err == nil || errors.Is(err, errPartial) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	if _, err := parseAgreement(refuse(unknownCritical)); !errors.Is(err, unknownCritical) {
		t.Errorf("an error record: %v", err)
	}
}

// FuzzRecords: neither end's decoder takes a message before its end, or changes its mind when more comes after.
func FuzzRecords(f *testing.F) {
	f.Add(chronyOffer)
	f.Add(beevikOffer)
	f.Add(accept(offer{true, true, true, true}, 1123, [][]byte{make([]byte, cookieLen), make([]byte, cookieLen)}))
	f.Add(refuse(internalError))
	f.Add([]byte{0xc0, 0, 0, 1, 9})
	f.Fuzz(func(t *testing.T, message []byte) {
		steady(t, message, parseOffer, func(a, b offer) bool { return a == b })
		steady(t, message, parseAgreement, func(a, b agreement) bool {
			return a.server == b.server && a.port == b.port && len(a.cookies) == len(b.cookies) && len(a.cookies) <= maxCookies
		})
	})
}

func steady[T any](t *testing.T, message []byte, parse func([]byte) (T, error), same func(a, b T) bool) {
	t.Helper()
	got, err := parse(message)
	if errors.Is(err, errPartial) {
		for length := range len(message) {
			if _, err := parse(message[:length]); !errors.Is(err, errPartial) {
				t.Fatalf("%d bytes are a message, and %d are not: %v", length, len(message), err)
			}
		}
		return
	}
	more, moreErr := parse(append(bytes.Clone(message), message...))
	if (err == nil) != (moreErr == nil) || err == nil && !same(got, more) {
		t.Fatalf("%+v, %v; with more after it %+v, %v", got, err, more, moreErr)
	}
}
