package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"

	"shekara/journal"
	"shekara/netctl/socket"
	"shekara/provisioning/api"
	"shekara/provisioning/client"
)

// groupNames are the two groups that may speak to the daemon.
const (
	actGroup  = "shekara"
	viewGroup = "shekara-view"
)

// groups looks the groups up; one that the box lacks is nil, and then only root has its role.
func groups(log *slog.Logger) (api.Groups, error) {
	var found api.Groups
	for name, to := range map[string]**uint32{actGroup: &found.Act, viewGroup: &found.View} {
		g, err := user.LookupGroup(name)
		var unknown user.UnknownGroupError
		if errors.As(err, &unknown) {
			log.Warn("no such group: nobody but root has its rights", "group", name)
			continue
		}
		if err != nil {
			return found, fmt.Errorf("look up group %s: %w", name, err)
		}
		number, err := strconv.ParseUint(g.Gid, 10, 32)
		if err != nil {
			return found, fmt.Errorf("look up group %s: %w", name, err)
		}
		id := uint32(number)
		*to = &id
	}
	return found, nil
}

// openDoors listens on both sockets. Whoever is in a socket's group may connect to it; what he may do is decided by his credentials.
func openDoors(directory string, g api.Groups) ([]api.Door, error) {
	var doors []api.Door
	for _, each := range []struct {
		name  string
		group *uint32
		most  api.Role
	}{{client.ActSocket, g.Act, api.Acts}, {client.ViewSocket, g.View, api.Looks}} {
		listener, err := listen(filepath.Join(directory, each.name), each.group)
		if err != nil {
			for _, open := range doors {
				open.Listener.Close()
			}
			return nil, err
		}
		doors = append(doors, api.Door{Listener: listener, Most: each.most})
	}
	return doors, nil
}

// listen takes over a socket file that a killed daemon left: the lock says that no other daemon lives. What is no socket is not ours.
func listen(path string, group *uint32) (net.Listener, error) {
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode().Type() != fs.ModeSocket:
		return nil, hint(fmt.Errorf("%s is there and is no socket", path), "it is not shekarad's: move it away")
	case err == nil:
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	// Between bind and here the file has the process's umask: with 022 only root may write to it, and so connect.
	mode, owner := fs.FileMode(0o600), -1
	if group != nil {
		mode, owner = 0o660, int(*group)
	}
	if err := errors.Join(os.Chown(path, -1, owner), os.Chmod(path, mode)); err != nil {
		listener.Close()
		return nil, fmt.Errorf("open %s to its group: %w", path, err)
	}
	return listener, nil
}

// identify asks the kernel who connected, and the user database for his name.
func identify(conn net.Conn) (api.Credentials, error) {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return api.Credentials{}, fmt.Errorf("%T is no unix socket", conn)
	}
	peer, err := socket.Peer(unix)
	if err != nil {
		return api.Credentials{}, err
	}
	return api.Credentials{Actor: actorOf(peer.UID, peer.PID), Groups: slices.Concat([]uint32{peer.GID}, peer.Groups)}, nil
}

func actorOf(uid uint32, pid int32) journal.Actor {
	actor := journal.Actor{UID: uid, PID: pid}
	// A user without an entry has only his number; that is no reason to refuse him.
	if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
		actor.User = u.Username
	}
	return actor
}

// self is who runs this program.
func self() journal.Actor { return actorOf(uint32(os.Getuid()), int32(os.Getpid())) }
