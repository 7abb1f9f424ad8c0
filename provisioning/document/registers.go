package document

import (
	"strings"
	"time"
)

// The kinds in this file are facts about who is behind the addresses. Nothing of them stands on the host: the contour rules judge by them.

// Names is what a thing is called in the three languages of the acts.
type Names struct {
	KK string `yaml:"kk" doc:"in Kazakh"`
	RU string `yaml:"ru" doc:"in Russian"`
	EN string `yaml:"en" doc:"in English"`
}

// Organisation is a legal entity.
type Organisation struct {
	Name         Names      `yaml:"name" doc:"in three languages"`
	Kind         string     `yaml:"kind" doc:"state-body, subordinate, authorised-body, operator, quasi-state, private, foreign, service-integrator, certification-authority, ocib or state-ocib; the first four and state-ocib are of the state"`
	BIN          string     `yaml:"bin,omitempty" doc:"business identification number, 12 digits of which the last one checks the others; absent only for kind foreign"`
	Architecture string     `yaml:"architecture,omitempty" doc:"the approved architecture by which its own systems talk to each other: number and date of the decision (GWY-06)"`
	Contracts    []Contract `yaml:"contracts,omitempty" doc:"of joint work on information security (GWY-02)"`
}

// State reports whether the organisation is of the state, so that its systems are systems of a state body (Rules 123, 2(23)).
func (o *Organisation) State() bool {
	switch o.Kind {
	case "state-body", "subordinate", "authorised-body", "operator", "state-ocib":
		return true
	}
	return false
}

// Contract is of joint work on information security of a state and a non-state system.
type Contract struct {
	With   string `yaml:"with" doc:"name of the other Organisation"`
	Number string `yaml:"number" doc:"of the contract"`
	Date   string `yaml:"date" doc:"when it was made, as 2026-01-31"`
	Until  string `yaml:"until" doc:"the last day it holds, as 2026-12-31, by the calendar of Asia/Almaty"`
}

// System is an object of informatization: what holds the addresses at one end of a flow.
type System struct {
	Name            Names    `yaml:"name" doc:"in three languages"`
	Organisation    string   `yaml:"organisation" doc:"name of the Organisation that owns it"`
	Class           int      `yaml:"class" doc:"1, 2 or 3; a tunnel to it is of security level 3, 2 or 1 at least (CRY-02)"`
	Contour         string   `yaml:"contour" doc:"internal, external or integration, as its zone's"`
	Zone            string   `yaml:"zone" doc:"name of the Zone that it stands in"`
	Prefixes        []string `yaml:"prefixes" doc:"its addresses, inside the zone; an address is of one System or Gateway"`
	Information     string   `yaml:"information,omitempty" doc:"the most sensitive it holds: public, confidential or personal (personal data of restricted access)" default:"public"`
	StateSecrets    bool     `yaml:"stateSecrets,omitempty" doc:"it holds state secrets (EXC-02)"`
	OfficialUse     bool     `yaml:"officialUse,omitempty" doc:"it holds information for official use (EXC-02, CRY-01)"`
	OnPlatform      bool     `yaml:"onPlatform,omitempty" doc:"it stands on the information and communication platform (EXC-03)"`
	SingleDataSpace bool     `yaml:"singleDataSpace,omitempty" doc:"it is meant for the single data space of the Government's analysts (EXC-03)"`
	InternetFacing  bool     `yaml:"internetFacing,omitempty" doc:"it is used over the Internet (SEG-03)"`
}

// Restricted reports whether what the system holds must be encrypted on the way (CRY-01, CRY-04).
func (s *System) Restricted() bool {
	return s.OfficialUse || s.StateSecrets || s.Information == "confidential" || s.Information == "personal"
}

// Gateway is one of the gateways of electronic government: shep is ШЭП, vshep is ВШЭП.
type Gateway struct {
	Name                Names       `yaml:"name" doc:"in three languages"`
	Kind                string      `yaml:"kind" doc:"shep (ШЭП), vshep (ВШЭП), national (to other states) or payment (ПШЭП)"`
	Environment         Environment `yaml:"environment" doc:"test or production"`
	Zone                string      `yaml:"zone" doc:"name of the Zone that its hosts stand in"`
	Prefixes            []string    `yaml:"prefixes" doc:"its hosts, inside the zone; an address is of one System or Gateway"`
	IndustrialOperation *Order      `yaml:"industrialOperation,omitempty" doc:"the order by which it was put into industrial operation (GWY-01)"`
}

// Order is a decision on paper.
type Order struct {
	Number string `yaml:"number" doc:"of the order"`
	Date   string `yaml:"date" doc:"as 2026-01-31"`
}

// Service is an entry of the register of services.
type Service struct {
	Name                   Names  `yaml:"name" doc:"in three languages"`
	Code                   string `yaml:"code" doc:"as the register has it, as MIND-S-2147; unique"`
	System                 string `yaml:"system" doc:"name of the System that gives the service"`
	Gateway                string `yaml:"gateway" doc:"the kind of gateway that it is published on: shep, vshep, national or payment; or none"`
	CertificationAuthority bool   `yaml:"certificationAuthority,omitempty" doc:"a certification authority gives it (EXC-01)"`
	OpenAccess             bool   `yaml:"openAccess,omitempty" doc:"anyone on the Internet may use it without consent (EXC-04)"`
	OneWay                 bool   `yaml:"oneWay,omitempty" doc:"it only gives out open data (EXC-04)"`
}

// CryptoModule is a product that encrypts, as the operator has it on record.
type CryptoModule struct {
	Product     string `yaml:"product" doc:"its name and version"`
	Kind        string `yaml:"kind" doc:"software or hardware"`
	Certificate string `yaml:"certificate" doc:"number of the certificate of conformity to ST RK 1073-2007: without one nothing is claimed (CRY-01)"`
	Level       int    `yaml:"level" doc:"security level by the certificate, 1 to 4"`
	ValidUntil  string `yaml:"validUntil" doc:"the last day of the certificate, as 2026-12-31, by the calendar of Asia/Almaty"`
}

// ParseDate reads "2026-12-31". Dates so written compare as text. The error is a *SyntaxError.
func ParseDate(s string) (time.Time, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return time.Time{}, &SyntaxError{"not a date", "write year, month and day, as 2026-12-31"}
	}
	return t, nil
}

// ParseBIN checks a business identification number: YYMM of registration, a type, a feature, a serial number and a check digit.
// The check digit is the sum of the others by weights 1 to 11, modulo 11; where that is 10, by weights 3 to 11, 1, 2; a number for which
// that is 10 too is never given out. The error is a *SyntaxError.
func ParseBIN(s string) error {
	if len(s) != 12 || strings.Trim(s, "0123456789") != "" {
		return &SyntaxError{"not a BIN", "write its 12 digits, in quotes"}
	}
	if month := s[2:4]; month < "01" || month > "12" {
		return &SyntaxError{"BIN with a wrong month", "digits 3 and 4 are the month of registration: copy the number again"}
	}
	for _, shift := range []int{0, 2} {
		sum := 0
		for i := range 11 {
			sum += int(s[i]-'0') * ((i+shift)%11 + 1)
		}
		if check := sum % 11; check < 10 {
			if byte(check) == s[11]-'0' {
				return nil
			}
			break
		}
	}
	return &SyntaxError{"BIN with a wrong check digit", "the last digit does not fit the others: copy the number again"}
}
