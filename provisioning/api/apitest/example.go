package apitest

import "shekara/provisioning/document/documenttest"

// example is a box with one agency, for what is answered by documents.
const example = documenttest.Zones + `apiVersion: shekara/v1
kind: Peer
metadata: {name: owner-edge}
spec: {side: owner, publicIP: 203.0.113.10, wireguard: [{farZone: agencies, environment: production, port: 51820}]}
---
apiVersion: shekara/v1
kind: Peer
metadata: {name: agency-a-edge}
spec:
  side: initiator
  publicIP: 198.51.100.20
  wireguard: [{farZone: gateway-dmz, environment: production, port: 51820, publicKey: iT3N63YOUxqGcdv8jbK8YJJDh2GBR4BK1BlqaSIqPRg=}]
---
apiVersion: shekara/v1
kind: Site
metadata: {name: owner}
spec:
  lab: true
  peers: [owner-edge]
  interfaces:
    - {name: ext0, zone: internet, addresses: [203.0.113.10/24], gateways: [203.0.113.1]}
    - {name: dmz0, zone: gateway-dmz, addresses: [10.20.0.1/24]}
    - {name: adm0, zone: admin, addresses: [192.168.100.1/24]}
  management: {zone: admin, from: [192.168.100.0/24], allow: [tcp/22, icmp]}
---
apiVersion: shekara/v1
kind: Tunnel
metadata: {name: agency-a}
spec:
  environment: production
  protocol: wireguard
  initiator: {peer: agency-a-edge, zone: agencies, prefixes: [10.64.1.0/28]}
  owner: {peer: owner-edge, zone: gateway-dmz, prefixes: [10.20.0.0/24]}
---
apiVersion: shekara/v1
kind: Flow
metadata: {name: agency-a-https}
spec: {tunnel: agency-a, from: [10.64.1.5/32], to: [10.20.0.10/32], allow: [tcp/443]}
`
