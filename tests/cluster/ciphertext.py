"""The objects' own ciphertext, as it travels, must lie in no file of a node: it is encrypted once more there."""
import lab


def pieces_of_objects(the_lab, person, bytes_min, pieces=16):
    """Some bytes out of each object that the person got, sealed by the sender."""
    found = []
    for message in person.inbox():
        if "object" in message:
            out = the_lab.folder / "sealed.bin"
            person.run("object", "export", message["object"]["cid"], "--out", str(out), "--force")
            sealed = out.read_bytes()
            lab.expect(len(sealed) >= bytes_min, "the object is not the sealed file")
            found += [sealed[at:at + 32] for at in range(0, len(sealed) - 32, len(sealed) // pieces)]
            out.unlink()
    return found


def check_no_ciphertext(folder, pieces, place=None):
    """`place`: where the node's objects lie, if not in the folder."""
    lab.expect(len(pieces) >= 32, "there were no objects")
    files = 0
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_socket():
            files += 1
            content = path.read_bytes()
            lab.expect(not any(piece in content for piece in pieces), f"an object's own ciphertext found in {path}")
    for name in place.segments() if place else []:
        files += 1
        content = place.read(name)
        lab.expect(not any(piece in content for piece in pieces), f"an object's own ciphertext found in {name}")
    lab.expect(files > 5, "the node has no files to look into")
    print(f"none of {len(pieces)} pieces of the objects' ciphertext in {files} files of {folder}")
