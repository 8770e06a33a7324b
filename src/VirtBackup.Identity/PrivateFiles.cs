using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using VirtBackup.Core;

namespace VirtBackup.Identity;

/// <summary>
/// Small files that must be whole and, where they hold keys, private. A write is a temporary file, fsync, rename, fsync of
/// the folder: after a power loss the old or the new content is there, never a part.
/// </summary>
internal static class PrivateFiles
{
    /// <summary>Largest file that is read, bytes.</summary>
    private const int FileBytesMax = 64 << 10;

    private const UnixFileMode OwnerReadWrite = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private const UnixFileMode OwnerAll = OwnerReadWrite | UnixFileMode.UserExecute;

    private const UnixFileMode Others = UnixFileMode.GroupRead | UnixFileMode.GroupWrite | UnixFileMode.GroupExecute
        | UnixFileMode.OtherRead | UnixFileMode.OtherWrite | UnixFileMode.OtherExecute;

    /// <summary>Creates the folder with mode 0700, or refuses one that others may enter.</summary>
    public static void EnsureFolder(string folder)
    {
        Guard(folder, () =>
        {
            if (OperatingSystem.IsWindows())
            {
                Directory.CreateDirectory(folder);
                return;
            }
            if (!Directory.Exists(folder))
            {
                Directory.CreateDirectory(folder, OwnerAll);
            }
            RefuseOthers(folder, "folder of private keys", "700");
        });
    }

    /// <summary>Makes what was created or renamed in the folder durable.</summary>
    public static void FlushFolder(string folder) => Guard(folder, () => FolderSync.Flush(folder));

    /// <summary>Renames a folder within its parent, durably; nothing may be at the new name.</summary>
    public static void MoveFolder(string folder, string target) =>
        Guard(folder, () =>
        {
            Directory.Move(folder, target);
            FolderSync.Flush(Path.GetDirectoryName(target)!);
        });

    /// <summary>Removes the folder and all in it, if it is there.</summary>
    public static void DeleteFolder(string folder) =>
        Guard(folder, () =>
        {
            if (Directory.Exists(folder))
            {
                Directory.Delete(folder, recursive: true);
            }
        });

    /// <summary>Writes the file with mode 0600, replacing it in one step.</summary>
    public static void Write(string path, ReadOnlySpan<byte> content)
    {
        var full = Path.GetFullPath(path);
        var staged = full + ".new";
        try
        {
            // A file left by a crash may have any mode: start anew.
            File.Delete(staged);
            var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, Share = FileShare.None };
            if (!OperatingSystem.IsWindows())
            {
                options.UnixCreateMode = OwnerReadWrite;
            }
            using (var stream = new FileStream(staged, options))
            {
                stream.Write(content);
                stream.Flush(flushToDisk: true);
            }
            File.Move(staged, full, overwrite: true);
            FolderSync.Flush(Path.GetDirectoryName(full)!);
        }
        catch (Exception failed) when (failed is IOException or UnauthorizedAccessException)
        {
            throw Unusable(path, failed);
        }
    }

    /// <summary>Reads a file that anybody may read.</summary>
    public static byte[] ReadPublic(string path)
    {
        byte[]? content = null;
        Guard(path, () => content = ReadBounded(path));
        return content!;
    }

    /// <summary>Reads a file that holds a private key; the caller zeroes the bytes.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Denied"/>: others may read or write it.</exception>
    public static byte[] ReadPrivate(string path)
    {
        byte[]? content = null;
        Guard(path, () =>
        {
            if (!OperatingSystem.IsWindows())
            {
                RefuseOthers(path, "private key", "600");
            }
            content = ReadBounded(path);
        });
        return content!;
    }

    public static void WriteKey(string path, ECDsa key)
    {
        var der = key.ExportPkcs8PrivateKey();
        var pem = PemEncoding.Write("PRIVATE KEY", der);
        var bytes = new byte[pem.Length + 1];
        try
        {
            Encoding.ASCII.GetBytes(pem, bytes);
            bytes[^1] = (byte)'\n';
            Write(path, bytes);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(der);
            CryptographicOperations.ZeroMemory(bytes);
            Array.Clear(pem);
        }
    }

    public static ECDsa ReadKey(string path)
    {
        var bytes = ReadPrivate(path);
        var text = new char[bytes.Length];
        var key = ECDsa.Create();
        try
        {
            Encoding.ASCII.GetChars(bytes, text);
            key.ImportFromPem(text);
            if (!EcKeys.IsP256(key) || !EcKeys.HasPrivateKey(key))
            {
                throw new CryptographicException("A P-256 private key was expected.");
            }
            return key;
        }
        catch (Exception broken) when (broken is CryptographicException or ArgumentException or PlatformNotSupportedException)
        {
            key.Dispose();
            throw new FaultException(FaultReason.Corrupt, $"'{path}' is not a P-256 private key in PEM (PKCS #8): restore it from a backup.", broken);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(bytes);
            Array.Clear(text);
        }
    }

    private static byte[] ReadBounded(string path)
    {
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, bufferSize: 0);
        if (stream.Length > FileBytesMax)
        {
            throw FaultException.Malformed($"'{path}' is longer than {FileBytesMax} bytes: it is not a key or certificate.");
        }
        var content = new byte[(int)stream.Length];
        stream.ReadExactly(content);
        return content;
    }

    [System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
    private static void RefuseOthers(string path, string what, string mode)
    {
        var found = File.GetUnixFileMode(path);
        if ((found & Others) != 0)
        {
            var quoted = path.Replace("'", "'\\''", StringComparison.Ordinal);
            throw new FaultException(FaultReason.Denied,
                $"The {what} '{path}' is open to other users (mode 0{Convert.ToString((int)found, 8)}). Run: chmod {mode} '{quoted}'");
        }
    }

    private static void Guard(string path, Action action)
    {
        try
        {
            action();
        }
        catch (Exception missing) when (missing is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new FaultException(FaultReason.NotFound, $"'{path}' does not exist.", missing);
        }
        catch (Exception failed) when (failed is IOException or UnauthorizedAccessException)
        {
            throw Unusable(path, failed);
        }
    }

    private static FaultException Unusable(string path, Exception failed) =>
        new(failed is UnauthorizedAccessException ? FaultReason.Denied : FaultReason.Unavailable, $"'{path}' cannot be used: {failed.Message}", failed);
}

/// <summary>Makes a rename durable (POSIX fsync on the folder; Windows has no such call and needs none).</summary>
internal static class FolderSync
{
    public static void Flush(string folder)
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }
        var handle = open(folder, 0);
        if (handle < 0)
        {
            throw new IOException($"The folder '{folder}' cannot be opened (errno {Marshal.GetLastPInvokeError()}).");
        }
        var failed = fsync(handle) != 0 ? Marshal.GetLastPInvokeError() : 0;
        _ = close(handle);
        if (failed != 0)
        {
            throw new IOException($"The folder '{folder}' cannot be flushed (errno {failed}).");
        }
    }

    [DllImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int open([MarshalAs(UnmanagedType.LPUTF8Str)] string path, int flags);

    [DllImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int fsync(int handle);

    [DllImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int close(int handle);
}
