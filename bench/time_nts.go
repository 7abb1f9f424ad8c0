package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"time"

	"shekara/netctl/certificate"
	"shekara/testbed/lab"
	"shekara/timesync/nts"
)

// Files of network time security, on the host of either server.
const (
	ntsCertificate = "/run/nts.pem"
	ntsKey         = "/run/nts.key"
	ntsCookies     = "/run/nts.cookies"
)

const (
	establishers    = 4 // clients that establish keys at once
	establishDuring = 2 * time.Second
)

// certify gives a server a certificate for its address, by itself.
func (s *timeServer) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{s.at.Addr().AsSlice()}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	made, err := x509.ParseCertificate(raw)
	if err != nil {
		return err
	}
	s.roots = x509.NewCertPool()
	s.roots.AddCert(made)
	if err := s.host.WriteFile(ntsCertificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), 0o644); err != nil {
		return err
	}
	return s.host.WriteFile(ntsKey, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600)
}

// establishKeys is the part of our server that shares the keys of cookies with what answers.
func establishKeys(at netip.Addr) (*nts.Server, error) {
	keys, err := nts.OpenKeys(ntsCookies)
	if err != nil {
		return nil, err
	}
	return &nts.Server{Addresses: []netip.Addr{at}, Files: certificate.Files{Certificate: ntsCertificate, Key: ntsKey}, Keys: keys,
		Admit: func(netip.Addr) bool { return true }, Done: func(netip.Addr, error) {}, Log: slog.New(slog.DiscardHandler)}, nil
}

// establish makes a session as the i-th client.
func (s *timeServer) establish(ctx context.Context, i int) (*nts.Session, error) {
	from := clientAddress(i)
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: s.roots}, NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: from[:]}}}
	return nts.Establish(ctx, dialer, netip.AddrPortFrom(s.at.Addr(), nts.Port).String())
}

// sealedRequests are one of each client of a flood. The server proved to each that it authenticates its answers.
func (s *timeServer) sealedRequests(ctx context.Context) ([][]byte, error) {
	var requests [][]byte
	for i := range floodSockets {
		session, err := s.establish(ctx, i)
		if err != nil {
			return nil, err
		}
		if err := askSealed(session, i); err != nil {
			return nil, err
		}
		request, err := session.Seal(plainRequest())
		if err != nil {
			return nil, err
		}
		requests = append(requests, request)
	}
	return requests, nil
}

func askSealed(s *nts.Session, i int) error {
	from := clientAddress(i)
	conn, err := (&net.Dialer{LocalAddr: &net.UDPAddr{IP: from[:]}}).Dial("udp", s.Server)
	if err != nil {
		return err
	}
	defer conn.Close()
	request, err := s.Seal(plainRequest())
	if err == nil {
		_, err = conn.Write(request)
	}
	if err == nil {
		err = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	}
	if err != nil {
		return err
	}
	answer := make([]byte, 1024)
	n, err := conn.Read(answer)
	if err != nil {
		return err
	}
	if n > len(request) {
		return fmt.Errorf("%d bytes answer %d", n, len(request))
	}
	return s.Open(answer[:n])
}

// secured measures what network time security adds. It runs on the host of the load.
func (s *timeServer) secured(ctx context.Context, load *lab.Host) error {
	requests, err := s.sealedRequests(ctx)
	if err != nil {
		return err
	}
	flood, err := openTimeFlood(s.at, requests...)
	if err != nil {
		return err
	}
	defer flood.close()
	before, err := s.worked()
	if err != nil {
		return err
	}
	answered, took, err := flood.run(ctx, timeFlood, 0)
	if err != nil {
		return err
	}
	after, err := s.worked()
	if err != nil {
		return err
	}
	s.note(timeSealed, float64(answered)/took.Seconds()/1000)
	s.note(timeSealedBusy, (after-before).Seconds()*1e6/float64(answered))
	rate, err := s.establishments(ctx, load)
	s.note(timeEstablished, rate)
	return err
}

// establishments is how many a second several clients get, a new one each time.
func (s *timeServer) establishments(ctx context.Context, load *lab.Host) (float64, error) {
	var clients sync.WaitGroup
	done, failed := make([]int, establishers), make([]error, establishers)
	began := time.Now()
	for c := range establishers {
		clients.Go(func() {
			failed[c] = load.Do(func() error {
				for ; time.Since(began) < establishDuring; done[c]++ {
					// An address of its own each time: ours lets none come often.
					if _, err := s.establish(ctx, int(s.strangers.Add(1))); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	clients.Wait()
	took := time.Since(began)
	sum := 0
	for c := range establishers {
		if failed[c] != nil {
			return 0, failed[c]
		}
		sum += done[c]
	}
	return float64(sum) / took.Seconds(), nil
}
