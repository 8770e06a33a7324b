using System.Security.Cryptography;

namespace VirtBackup.CloudStores.Spool;

/// <summary>The bytes of an object in the spool, hashed as they were written. One writer; then any number of readers.</summary>
internal sealed class SpooledContent(SpoolFolder folder) : IDisposable
{
    private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
    private readonly FileStream _file = folder.Create();
    private bool _isMoved;

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

    /// <summary>SHA-256 of everything so far, hexadecimal.</summary>
    public string Finish() => Convert.ToHexStringLower(_hash.GetHashAndReset());

    /// <summary>A seekable stream of a range; it closes nothing but itself.</summary>
    public Stream OpenRange(long offset, long length) => new SpooledRange(_file.SafeFileHandle, offset, length);

    /// <summary>Leaves the spool: it can only be disposed from now on.</summary>
    public void MoveTo(string path)
    {
        _file.Dispose();
        File.Move(_file.Name, path, overwrite: true);
        _isMoved = true;
    }

    public void Dispose()
    {
        _hash.Dispose();
        _file.Dispose();
        if (_isMoved)
        {
            return;
        }
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
