using System.Security.Cryptography;
using System.Text;
using VirtBackup.Agent.State;
using VirtBackup.Core;
using VirtBackup.Hypervisors;

namespace VirtBackup.Agent.Host;

/// <summary>One small file per folder, named by the hash of its path.</summary>
public sealed class FileRestoreNotes : IRestoreNotes
{
    private readonly string _folder;

    public FileRestoreNotes(string folder)
    {
        _folder = folder;
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

    public IReadOnlyList<string> List() =>
        [.. Directory.EnumerateFiles(_folder, "*.txt").Select(File.ReadAllText).Where(Path.IsPathFullyQualified)];

    private string PathOf(string folder) => Path.Combine(_folder, $"{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(folder)))}.txt");
}
