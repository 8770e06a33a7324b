using System.Security.Cryptography;
using System.Text;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Images;

/// <summary>A powered-off machine known by its disk images.</summary>
public sealed record ImageMachine(Id16 Uuid, string Name, IReadOnlyList<MachineImage> Images);

/// <summary>
/// One image. Its format is stated, never probed: a guest could write another format's header into a raw disk and so make
/// the host open any file as a backing image.
/// </summary>
/// <param name="Name">Unique within the machine; the disk's identity follows from it.</param>
/// <param name="Path">Absolute path of the file or block device.</param>
/// <param name="Format"><c>raw</c> or <c>qcow2</c> (with its backing chain).</param>
public sealed record MachineImage(string Name, string Path, string Format)
{
    /// <summary>The disk's id: it stays while machine and name stay.</summary>
    public Id16 IdFor(Id16 machine)
    {
        var name = Encoding.UTF8.GetBytes(Name);
        var input = new byte["virtbackup image disk\0"u8.Length + Id16.Size + name.Length];
        "virtbackup image disk\0"u8.CopyTo(input);
        machine.Write(input.AsSpan("virtbackup image disk\0"u8.Length));
        name.CopyTo(input, input.Length - name.Length);
        return Id16.Read(SHA256.HashData(input));
    }
}
