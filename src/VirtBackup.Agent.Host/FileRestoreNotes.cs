using System.Security.Cryptography;
using System.Text;
using VirtBackup.Agent.State;
using VirtBackup.Core;
using VirtBackup.Hypervisors;

namespace VirtBackup.Agent.Host;

/// <summary>One small file per folder, named by the hash of its path.</summary>
public sealed class FileRestoreNotes : IRestoreNotes
{
    private const int PathCharsMax = 4096;
    private static readonly UTF8Encoding Strict = new(false, throwOnInvalidBytes: true);
    private readonly string _folder;
    private readonly Action<string> _report;

    /// <param name="report">Told of a note that cannot be read.</param>
    public FileRestoreNotes(string folder, Action<string> report)
    {
        _folder = folder;
        _report = report;
        PrivateFolder.Create(folder);
    }

    public void Add(string folder)
    {
        var path = PathOf(folder);
        try
        {
            DurableFile.Write(path, Encoding.UTF8.GetBytes(folder));
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.DeviceFull, $"The agent's state {path} cannot be written: {failure.Message}", failure);
        }
    }

    public void Remove(string folder)
    {
        try
        {
            File.Delete(PathOf(folder));
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            // What it names is looked at once more at the next start.
        }
    }

    public IReadOnlyList<string> List() => [.. Directory.EnumerateFileSystemEntries(_folder, "*.txt").Select(TryRead).OfType<string>().Where(Path.IsPathFullyQualified)];

    // What a restore has left costs space; an agent that does not start costs backups.
    private string? TryRead(string path)
    {
        try
        {
            using var reader = new StreamReader(path, Strict, detectEncodingFromByteOrderMarks: false);
            var text = new char[PathCharsMax + 1];
            var count = reader.ReadBlock(text);
            return count <= PathCharsMax && !text.AsSpan(0, count).Contains('\0') ? new string(text, 0, count) : throw new InvalidDataException("It holds no path.");
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or InvalidDataException or DecoderFallbackException)
        {
            _report($"The note {path} of a restore that was interrupted cannot be read ({failure.Message}): what it left in its folder stays. Remove both by hand.");
            return null;
        }
    }

    private string PathOf(string folder) => Path.Combine(_folder, $"{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(folder)))}.txt");
}
