using System.Security.Cryptography;

namespace VirtBackup.CloudStores.Spool;

/// <summary>The bytes of an object in the spool, hashed as they were written. One writer; then any number of readers.</summary>
internal sealed class SpooledContent(SpoolFolder folder) : IDisposable
{
    private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
    private readonly FileStream _file = folder.Create();

    public long Length { get; private set; }

    public async ValueTask WriteAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        try
        {
            await RandomAccess.WriteAsync(_file.SafeFileHandle, bytes, Length, cancellationToken);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw folder.Fault("be written to", failure);
        }
        _hash.AppendData(bytes.Span);
        Length += bytes.Length;
    }

    /// <summary>SHA-256 of everything, hexadecimal. Nothing may be written any more.</summary>
    public string Finish() => Convert.ToHexStringLower(_hash.GetHashAndReset());

    /// <summary>A seekable stream of a range; it closes nothing but itself.</summary>
    public Stream OpenRange(long offset, long length) => new SpooledRange(_file.SafeFileHandle, offset, length);

    public void Dispose()
    {
        _hash.Dispose();
        _file.Dispose();
        try
        {
            File.Delete(_file.Name);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            // It is removed when the spool is opened next; failing here would hide how the object fared.
        }
    }
}
