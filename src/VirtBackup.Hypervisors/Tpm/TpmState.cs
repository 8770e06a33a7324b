using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Tpm;

/// <param name="Name">One that <see cref="TpmState.IsStateFile"/> accepts.</param>
internal sealed record TpmStateFile(string Name, ReadOnlyMemory<byte> Bytes)
{
    /// <summary>Without the bytes: they are secrets.</summary>
    public override string ToString() => Name;
}

/// <summary>
/// What a TPM emulator (swtpm) keeps between two runs of a machine: seeds, keys and counters, which open the guest's encrypted
/// disks. One spelling: magic | count u8 | per file, names ascending: length u8, name, length u32, bytes | SHA-256 of all before.
/// Numbers are little-endian.
/// </summary>
internal sealed record TpmState(IReadOnlyList<TpmStateFile> Files)
{
    public const int FilesMax = 4;

    /// <summary>An emulated TPM has less than 64 KiB of memory; an encrypted or older state is of the same size.</summary>
    public const int FileBytesMax = 1 << 20;

    private static ReadOnlySpan<byte> Magic => "VBTPM001"u8;

    /// <summary>
    /// The permanent state of a TPM 1.2 or 2.0. What else an emulator writes belongs to a machine whose memory was saved, too;
    /// a restored machine boots.
    /// </summary>
    public static IReadOnlyList<string> FileNames { get; } = ["tpm-00.permall", "tpm2-00.permall"];

    public static bool IsStateFile(string name) => FileNames.Contains(name);

    public byte[] Write()
    {
        var stream = new MemoryStream();
        stream.Write(Magic);
        stream.WriteByte((byte)Files.Count);
        Span<byte> length = stackalloc byte[sizeof(uint)];
        foreach (var file in Files)
        {
            Check.That(IsStateFile(file.Name) && file.Bytes.Length <= FileBytesMax);
            stream.WriteByte((byte)file.Name.Length);
            stream.Write(Encoding.ASCII.GetBytes(file.Name));
            BinaryPrimitives.WriteUInt32LittleEndian(length, (uint)file.Bytes.Length);
            stream.Write(length);
            stream.Write(file.Bytes.Span);
        }
        stream.Write(SHA256.HashData(stream.GetBuffer().AsSpan(0, (int)stream.Length)));
        return stream.ToArray();
    }

    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>: not such a state, or not all of it.</exception>
    public static TpmState Read(ReadOnlyMemory<byte> bytes)
    {
        var end = bytes.Length - SHA256.HashSizeInBytes;
        if (end <= Magic.Length || !bytes.Span[..Magic.Length].SequenceEqual(Magic) || !SHA256.HashData(bytes.Span[..end]).AsSpan().SequenceEqual(bytes.Span[end..]))
        {
            throw Malformed();
        }
        var at = Magic.Length;
        var files = new List<TpmStateFile>();
        var count = Take(bytes[..end], ref at, 1).Span[0];
        for (var i = 0; i < count; i++)
        {
            var name = Encoding.ASCII.GetString(Take(bytes[..end], ref at, Take(bytes[..end], ref at, 1).Span[0]).Span);
            var length = BinaryPrimitives.ReadUInt32LittleEndian(Take(bytes[..end], ref at, sizeof(uint)).Span);
            if (!IsStateFile(name) || length > FileBytesMax || (files.Count > 0 && string.CompareOrdinal(files[^1].Name, name) >= 0))
            {
                throw Malformed();
            }
            files.Add(new TpmStateFile(name, Take(bytes[..end], ref at, (int)length)));
        }
        return at == end && count is > 0 and <= FilesMax ? new TpmState(files) : throw Malformed();
    }

    private static ReadOnlyMemory<byte> Take(ReadOnlyMemory<byte> bytes, ref int at, int length)
    {
        if (length > bytes.Length - at)
        {
            throw Malformed();
        }
        at += length;
        return bytes.Slice(at - length, length);
    }

    private static FaultException Malformed() => FaultException.Malformed("The stored state of the machine's TPM is not whole, or of a kind that this version does not know.");
}
