using VirtBackup.Core;

namespace VirtBackup.Database;

/// <summary>
/// Bytes that are appended, read back and never kept. Not safe for concurrent use. Failures are
/// <see cref="FaultException"/>s: <see cref="FaultReason.DeviceFull"/>, <see cref="FaultReason.Denied"/>,
/// <see cref="FaultReason.Unavailable"/>.
/// </summary>
public interface IScratch : IDisposable
{
    /// <summary>Bytes so far.</summary>
    long Length { get; }

    void Append(ReadOnlySpan<byte> bytes);

    /// <summary>Fills <paramref name="destination"/>; all of it must have been appended.</summary>
    void Read(long offset, Span<byte> destination);
}
